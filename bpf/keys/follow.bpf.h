/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which keys do a connection's requests name? Those whose outcome depends on what the server has
 * are told to the keeper by the ring `key_notes`: it compares them on both servers, and repairs.
 *
 * A key too many costs a comparison. One that is overlooked would be a difference that nobody
 * knows of, so each place where that may have happened is counted (key_missed): where a segment
 * was lost and came late, where a line is cut and there is no room to remember it, where the ring
 * is full. Nothing here has an effect on what is mirrored.
 *
 * While somebody looks (key_watch), one key in so many of every request is told to the ring
 * `key_samples`, too. That is for people to see, and what finds no room there is dropped.
 */
#ifndef DOPPEL_KEYS_FOLLOW_BPF_H
#define DOPPEL_KEYS_FOLLOW_BPF_H

#include "flow/join.bpf.h"
#include "keys/lexer.bpf.h"
#include "keys/races.bpf.h"
#include "ledger.bpf.h"

#define KEYS_WINDOW 256u /* bytes of a packet that are read at a time */
/* Steps for a packet, each a byte of a line or a whole value: enough for any but BIG TCP's. */
#define KEYS_STEPS (64u << 10)
/* A hole is given up after so long: lost text is sent again sooner. */
#define KEYS_HOLE_NS (10 * NSEC_PER_SEC)

/* What a step of the lexer works on. */
struct keys_loop {
	struct __sk_buff *skb;
	struct keys_scratch *room;
};

/* One key in how many is to be shown; 0: nobody looks. */
static __always_inline __u32 keys_watched(void)
{
	__u32 zero = 0;
	struct dp_key_watch *w = bpf_map_lookup_elem(&key_watch, &zero);

	return w && w->until_ns && bpf_ktime_get_coarse_ns() < w->until_ns ? w->every : 0;
}

/* The key that the lexer has, without what is not used of its room. */
static __always_inline long keys_put(void *ring, struct keys_scratch *room, __u64 flags)
{
	__u64 size = room->lexer.note.length;

	asm volatile("%[n] &= 255" : [n] "+r"(size));
	return bpf_ringbuf_output(ring, &room->lexer.note, offsetof(struct dp_key_note, key) + size,
				  flags);
}

/* Who looks empties the ring time and again, and need not be woken. */
static __always_inline void keys_sample(struct keys_scratch *room)
{
	room->sampled.keys++;
	if (bpf_get_prandom_u32() % room->every)
		return;
	if (keys_put(&key_samples, room, BPF_RB_NO_WAKEUP))
		room->sampled.dropped++;
	else
		room->sampled.told++;
}

/* A request names the key that the lexer of this CPU has. */
GLOBAL int keys_take(void)
{
	struct keys_scratch *room;
	struct lexer *l;
	__u32 zero = 0;

	room = bpf_map_lookup_elem(&keys_scratch, &zero);
	if (!room)
		return 0;
	l = &room->lexer;
	l->note.ns = room->walk.now;
	if (room->every)
		keys_sample(room);
	if (!room->converges || l->note.kind == DP_KEY_READ)
		return 0;
	/* Asked in any case, so that the place remembers the write. */
	if (!key_is_contended(l->hash ^ bpf_ntohs(l->note.server_port), room->whose,
			      room->walk.now) &&
	    l->note.kind != DP_KEY_DEPENDENT)
		return 0;
	if (keys_put(&key_notes, room, 0))
		room->walk.missed++;
	else
		room->noted++;
	return 0;
}

static __always_inline bool keys_read_on(struct __sk_buff *skb, struct keys_scratch *room)
{
	struct keys_walk *w = &room->walk;
	__u64 n = w->end - w->at;

	if (n > KEYS_WINDOW)
		n = KEYS_WINDOW;
	asm volatile("%[n] += -1\n\t%[n] &= 255\n\t%[n] += 1" : [n] "+r"(n));
	if (bpf_skb_load_bytes(skb, w->offset + w->at, room->window, n))
		return false;
	w->read_from = w->at;
	w->read_to = w->at + n;
	return true;
}

static long keys_step(__u32 i, struct keys_loop *loop)
{
	struct keys_scratch *room = loop->room;
	struct keys_walk *w = &room->walk;
	struct lexer *l = &room->lexer;
	__u32 left = w->end - w->at;

	if (w->at >= w->end)
		return 1;
	if (l->skip) {
		__u32 n = l->skip < left ? l->skip : left;

		l->skip -= n;
		w->at += n;
		return 0;
	}
	if ((w->at >= w->read_to || w->at < w->read_from) && !keys_read_on(loop->skb, room)) {
		w->lost = 1;
		return 1;
	}
	switch (lexer_byte(l, room->window[(w->at - w->read_from) & (KEYS_WINDOW - 1)])) {
	case LEXER_A_KEY:
		keys_take();
		break;
	case LEXER_FLUSH: /* against the writes of other connections */
		w->missed++;
		break;
	case LEXER_LOST:
		w->lost = 1;
		return 1;
	default:
		break;
	}
	w->at++;
	return 0;
}

/* Bytes [walk.at, walk.end) of the payload. */
GLOBAL int keys_lex(struct __sk_buff *skb)
{
	struct keys_loop loop = {.skb = skb};
	struct keys_walk *w;
	__u32 zero = 0;

	loop.room = bpf_map_lookup_elem(&keys_scratch, &zero);
	if (!loop.room)
		return 0;
	w = &loop.room->walk;
	w->read_to = 0;
	w->read_from = 0;
	bpf_loop(KEYS_STEPS, keys_step, &loop, 0);
	if (w->at < w->end)
		w->lost = 1;
	return 0;
}

/* The key of a connection's rows, whatever its target. */
static __always_inline void keys_row_of(const struct pkt *p, struct dp_flow_key *key)
{
	key->client = p->saddr;
	key->server = p->daddr;
	key->client_port = p->sport;
	key->server_port = p->dport;
	key->copy = 0;
	key->target = 0;
	key->mapping = p->mapping;
}

/*
 * Of IPv4 no two clients have the same. The server's port is in the hash of the key; its address,
 * and of IPv6 the rest of the client's, is mixed in. So is, by keys_go_on(), where the connection
 * began: the next one of the same port is another writer, with a shadow of its own.
 */
static __always_inline __u64 keys_whose(const struct pkt *p)
{
	__u64 rest = (__u64)p->saddr.w[0] << 32 | (p->saddr.w[1] ^ p->saddr.w[2]);
	__u32 server = p->daddr.w[3] * 0x9e3779b1u;

	return ((__u64)p->saddr.w[3] << 32 | (__u32)p->sport << 16 | server >> 16) ^
	       rest * 0x9e3779b97f4a7c15ull;
}

/* The hole that is remembered may stay one: its text may have gone past capture (a fragment). */
static __always_inline void keys_hole_missed(struct keys_walk *w, struct key_stream *s)
{
	if (s->hole_from == s->hole_to || s->hole_counted)
		return;
	s->hole_counted = 1;
	w->missed++;
}

/* Bytes of the packet up to `end`, behind which the stream is known already. They fill a hole. */
static __always_inline void keys_fill(struct __sk_buff *skb, struct keys_scratch *room,
				      const struct pkt *p, struct key_stream *s, __u32 end)
{
	struct keys_walk *w = &room->walk;
	__u32 from = seq_max(p->seq, s->hole_from), to = seq_min(end, s->hole_to);
	__u32 gap = from - s->hole_from;
	struct lexer *l = &room->lexer;

	if (!seq_before(from, to))
		return;
	__builtin_memset(l, 0, offsetof(struct lexer, note));
	l->protocol = s->protocol;
	if (s->hole_known && s->hole_skip >= gap) {
		l->skip = s->hole_skip - gap;
		w->at = from - p->seq;
		w->end = to - p->seq;
		keys_lex(skb);
		w->end = p->payload;
	} else {
		w->lost = 1;
	}
	s->hole_from = to;
	s->hole_skip = l->skip;
	s->hole_known = !w->lost && !lexer_is_in_request(l);
	/* Where the hole ends, the rest of a request or a value was read as a request. */
	if (to == s->hole_to && (!s->hole_known || s->hole_skip))
		w->lost = 1;
	w->missed += w->lost;
	w->lost = 0;
}

/* [next, seq) is missing. True: the lexer goes on at p->seq. */
static __always_inline bool keys_gap(struct keys_walk *w, const struct pkt *p, struct key_stream *s)
{
	__u32 gap = p->seq - s->next;

	if (s->skip >= gap) { /* all of it is of a value */
		s->skip -= gap;
		return true;
	}
	keys_hole_missed(w, s);
	s->hole_ns = w->now;
	s->hole_from = s->next;
	s->hole_to = p->seq;
	s->hole_skip = s->skip;
	s->hole_known = !s->cut;
	s->hole_counted = 0;
	s->skip = 0;
	return false;
}

/*
 * A SYN has come since, and this segment is not what the stream before it goes on with: it is of
 * the connection that the SYN began. A SYN alone proves nothing: it may be forged, or late.
 */
static __always_inline void keys_begin(struct keys_walk *w, const struct pkt *p,
				       struct key_stream *s)
{
	if (!s->begun)
		return;
	if (p->seq == s->next && p->seq != s->first) {
		s->begun = 0;
	} else if (p->seq - s->first < (1u << 30)) {
		keys_hole_missed(w, s);
		s->begun = 0;
		s->next = s->first;
		s->skip = 0;
		s->hole_from = s->hole_to;
		s->known = s->plain;
		s->protocol = 0;
		s->cut = 0;
	}
}

/* What the segment is to the stream. The lexer is where it has to be at p->seq, or `from`. */
static __always_inline void keys_go_on(struct __sk_buff *skb, struct keys_scratch *room,
				       const struct pkt *p, struct key_stream *s,
				       const struct dp_flow_key *key)
{
	struct keys_walk *w = &room->walk;
	struct lexer *l = &room->lexer, *line;
	__u32 end = p->seq + p->payload, from = 0;
	bool recent, known, fills;

	keys_begin(w, p, s);
	room->whose ^= (__u64)s->first * 0x9e3779b97f4a7c15ull;
	/* No window is larger than 1 GB: what is further behind is of another connection. */
	recent = (__s32)(p->seq - s->next) > -(1 << 30);
	known = s->known && recent;
	fills = recent && seq_before(p->seq, s->hole_to) && seq_after(end, s->hole_from);

	if (w->now - s->hole_ns > KEYS_HOLE_NS)
		keys_hole_missed(w, s);
	if (fills && s->hole_from != s->hole_to)
		keys_fill(skb, room, p, s, seq_min(end, s->next));
	else
		fills = false;
	if ((known || fills) && !seq_after(end, s->next))
		return;
	__builtin_memset(l, 0, offsetof(struct lexer, note));
	l->protocol = s->protocol;
	line = s->cut ? bpf_map_lookup_elem(&key_lines, key) : NULL;
	if (known && s->cut && !line) { /* no room was left for it */
		w->missed++;
		known = false;
	} else if (known && seq_after(p->seq, s->next)) {
		known = keys_gap(w, p, s);
	} else if (known) {
		from = s->next - p->seq;
	}
	if (known && line)
		__builtin_memcpy(l, line, sizeof(*l));
	if (line)
		bpf_map_delete_elem(&key_lines, key);
	s->cut = 0;
	if (known)
		l->skip = s->skip;
	if (known || starts_like_command(skb, p)) {
		w->at = from;
		keys_lex(skb);
	} else {
		w->lost = 1;
	}
	s->next = end;
	s->skip = l->skip;
	s->protocol = w->lost ? LEXER_UNKNOWN : l->protocol;
	s->known = !w->lost;
	w->missed += w->lost;
	if (w->lost || !lexer_is_in_request(l))
		return;
	s->cut = 1;
	if (bpf_map_update_elem(&key_lines, key, l, BPF_ANY)) {
		w->missed++;
		s->known = 0;
		s->cut = 0;
	}
}

static __always_inline void keys_count(const struct keys_scratch *room, __u32 mapping,
				       __u32 targets)
{
	for (__u32 t = 0; t < DP_MAX_TARGETS; t++) {
		struct dp_ledger *l = t < targets ? ledger_cell(mapping, t) : NULL;

		if (!l)
			break;
		l->event[DP_EVENT_key_noted] += room->noted;
		l->event[DP_EVENT_key_missed] += room->walk.missed;
	}
}

static __always_inline void keys_count_samples(const struct dp_key_sampled *more)
{
	__u32 zero = 0;
	struct dp_key_sampled *s = bpf_map_lookup_elem(&key_sampled, &zero);

	if (!s)
		return;
	s->keys += more->keys;
	s->told += more->told;
	s->dropped += more->dropped;
}

/*
 * A captured segment of a mapping whose keys are wanted. `targets`: how many of them have to
 * converge; `every`: one key in so many is shown.
 */
GLOBAL int keys_read(struct __sk_buff *skb, const struct pkt *p, __u32 targets, __u32 every)
{
	struct key_stream *s, *fresh;
	struct dp_flow_key key = {};
	struct keys_scratch *room;
	struct keys_walk *w;
	__u32 zero = 0;

	if (!p)
		return 0;
	room = bpf_map_lookup_elem(&keys_scratch, &zero);
	if (!room)
		return 0;
	fresh = &room->fresh;
	w = &room->walk;
	__builtin_memset(fresh, 0, sizeof(*room) - offsetof(struct keys_scratch, fresh));
	keys_row_of(p, &key);
	w->now = bpf_ktime_get_coarse_ns();
	room->converges = targets;
	room->every = every;
	s = bpf_map_lookup_elem(&key_streams, &key);
	if (s && (p->flags & (TCP_SYN | TCP_FIN | TCP_RST)))
		keys_hole_missed(w, s);
	if (p->flags & TCP_SYN) {
		fresh->next = p->seq + 1 + p->payload;
		fresh->first = fresh->next;
		fresh->known = !p->payload; /* TCP Fast Open: text that the source may not take */
		if (!s) {
			bpf_map_update_elem(&key_streams, &key, fresh, BPF_ANY);
		} else {
			s->first = fresh->next;
			s->plain = fresh->known;
			s->begun = 1;
		}
	} else if (p->payload) {
		if (!s && !bpf_map_update_elem(&key_streams, &key, fresh, BPF_ANY))
			s = bpf_map_lookup_elem(&key_streams, &key);
		if (s) {
			w->offset = p->data_off;
			w->end = p->payload;
			room->whose = keys_whose(p);
			room->lexer.note.mapping = p->mapping;
			room->lexer.note.server = p->daddr;
			room->lexer.note.server_port = p->dport;
			keys_go_on(skb, room, p, s, &key);
		} else {
			w->missed = 1;
		}
	}
	if (room->noted | w->missed)
		keys_count(room, p->mapping, targets);
	if (room->sampled.keys)
		keys_count_samples(&room->sampled);
	return 0;
}

static __always_inline void keys_follow(struct __sk_buff *skb, const struct pkt *p,
					const struct dp_mapping *m)
{
	__u32 targets = m->flags & DP_MAP_CONVERGE ? m->n_targets : 0;
	bool memcached = m->application == DP_APP_AUTO || m->application == DP_APP_MEMCACHED;
	__u32 every = memcached ? keys_watched() : 0;

	if ((targets | every) && !(m->clients && flow_is_unwanted(p, m->clients)))
		keys_read(skb, p, targets, every);
}

#endif

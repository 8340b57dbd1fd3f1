// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * seq.bpf.h, the marks of presence.bpf.h and the scoreboard of recovery.bpf.h against a model: a
 * window of CELLS cells, each `unit` numbers wide, that begins anywhere in the sequence space. What
 * is there is a bit per cell, and a position is a plain 64-bit number.
 */
#include "presence.bpf.h"
#include "tcp/recovery.bpf.h"
#include "check.h"
#include "registry.h"

#define CELLS 240u

struct model {
	__u32 base;
	__u32 unit;
	__u8 has[CELLS];
};

static __u32 at(const struct model *m, __u32 cell)
{
	return m->base + cell * m->unit;
}

/* Number of maximal runs of cells from `first` on. */
static __u32 runs(const struct model *m, __u32 first)
{
	__u32 n = 0;

	for (__u32 i = first; i < CELLS; i++)
		n += m->has[i] && (i == first || !m->has[i - 1]);
	return n;
}

static __u32 count(const struct model *m, __u32 from, __u32 to)
{
	__u32 n = 0;

	for (__u32 i = from; i < to; i++)
		n += m->has[i];
	return n;
}

static void set(struct model *m, __u32 from, __u32 to, __u8 value)
{
	for (__u32 i = from; i < to; i++)
		m->has[i] = value;
}

/* The ranges are exactly the maximal runs from `first` on. */
static void same(const struct model *m, const struct dp_range *set, int n, __u8 number, __u32 first)
{
	__u32 used = 0;

	for (int i = 0; i < n; i++) {
		__u32 from = set[i].start - m->base, to = set[i].end - m->base;

		if (set[i].start == set[i].end)
			continue;
		used++;
		CHECK(from % m->unit == 0 && to % m->unit == 0);
		from /= m->unit;
		to /= m->unit;
		CHECK(from < to && to <= CELLS && from >= first);
		CHECK(count(m, from, to) == to - from);
		CHECK(from == first || !m->has[from - 1]);
		CHECK(to == CELLS || !m->has[to]);
	}
	CHECK(used == number);
	CHECK(used == runs(m, first));
}

static void two(struct input *in, __u32 *from, __u32 *to, __u32 longest)
{
	*from = take8(in) % CELLS;
	*to = *from + 1 + take8(in) % longest;
	if (*to > CELLS)
		*to = CELLS;
}

/*
 * presence.bpf.h: marks of any kind in any order, against the cells. A cell is 1, 7, 182 or 256
 * bytes, so that the window lies in one chunk or in up to 31; the base says where numbers wrap. The
 * chunk of another generation and the one behind the window have all their marks.
 */
static void presence(struct input *in, struct model *m)
{
	__u32 slot = take8(in) % HOST_SLOTS, gen = take16(in), unmapped = take8(in), from, to, run;
	__u32 first, chunks_, index = 0;
	struct dp_store_key key = {.slot = slot, .gen = gen};

	/* No more chunks than the store has. */
	while ((CELLS * m->unit + DP_CHUNK) / DP_CHUNK + 2 > HOST_CHUNKS)
		m->unit /= 2;
	first = m->base >> DP_CHUNK_SHIFT;
	chunks_ = ((m->base & (DP_CHUNK - 1)) + CELLS * m->unit - 1) / DP_CHUNK + 1;
	host_reset();
	for (__u32 i = 0; i < chunks_; i++, index++) {
		struct dp_chunk *c = bpf_map_lookup_elem(&chunks, &index);

		key.chunk = (first + i) & (0xffffffffu >> DP_CHUNK_SHIFT);
		__builtin_memset(c->present, 0xff, sizeof(c->present)); /* of who had it before */
		c->marked = 0;
		CHECK(!bpf_map_update_elem(&store, &key, &index, BPF_NOEXIST));
	}
	for (__u32 other = 0; other < 2; other++, index++) {
		struct dp_chunk *c = bpf_map_lookup_elem(&chunks, &index);

		key.gen = gen + 1 - other;
		key.chunk = (first + (other ? chunks_ : 0)) & (0xffffffffu >> DP_CHUNK_SHIFT);
		__builtin_memset(c->present, 0xff, sizeof(c->present));
		c->marked = 1;
		bpf_map_update_elem(&store, &key, &index, BPF_NOEXIST);
	}
	while (in->size) {
		two(in, &from, &to, 40);
		if (take8(in) & 1) {
			presence_mark(slot, gen, at(m, from), at(m, to));
			set(m, from, to, 1);
		}
		for (run = from; run < to && m->has[run]; run++)
			;
		CHECK(presence_end(slot, gen, at(m, from), at(m, to)) == at(m, run));
		CHECK(presence_end(slot, gen, at(m, from), at(m, from)) == at(m, from));
		/* Every border by itself: a byte further and a byte less. */
		for (__u32 i = from; i < to; i++) {
			CHECK(presence_end(slot, gen, at(m, i), at(m, i) + 1) ==
			      at(m, i) + m->has[i]);
			CHECK(presence_end(slot, gen, at(m, i + 1) - 1, at(m, i + 1)) ==
			      at(m, i + 1) - !m->has[i]);
		}
	}
	/* A chunk that is gone has nothing. */
	key.gen = gen;
	unmapped %= chunks_;
	key.chunk = (first + unmapped) & (0xffffffffu >> DP_CHUNK_SHIFT);
	CHECK(!bpf_map_delete_elem(&store, &key));
	from = unmapped ? key.chunk << DP_CHUNK_SHIFT : m->base;
	CHECK(presence_end(slot, gen, from, from + 1) == from);
}

static void plain(struct input *in, struct model *m)
{
	struct dp_range set_[DP_MAX_SACK] = {};
	__u8 number = 0;

	while (in->size) {
		__u32 from, to, start, end, low, high, op = take8(in);

		two(in, &from, &to, 30);
		if (op % 5 == 0) {
			range_prune(set_, DP_MAX_SACK, &number, at(m, from));
			set(m, 0, from, 0);
		} else {
			CHECK(range_take(set_, DP_MAX_SACK, &number, at(m, from), at(m, to), &start,
					 &end) == (to - from - count(m, from, to)) * m->unit);
			low = (start - m->base) / m->unit;
			high = (end - m->base) / m->unit;
			set(m, from, to, 1);
			CHECK(low <= from && high >= to && count(m, low, high) == high - low);
			if (!range_put(set_, DP_MAX_SACK, &number, start, end)) {
				CHECK(number == DP_MAX_SACK);
				set(m, low, high, 0);
			}
		}
		same(m, set_, DP_MAX_SACK, number, 0);
	}
}

/* SACK blocks of any kind, acknowledgements, and a recovery walked to its end. */
static void scoreboard(struct input *in)
{
	struct dp_shadow sh = {
		.tcp = {.state = DP_ESTABLISHED, .mss = 64 + take8(in), .flags = DP_SH_SACK}};
	__u32 kind = take8(in), fin = kind & 1;
	__u64 now = 0;

	sh.tcp.una = take32(in);
	sh.tcp.end = sh.tcp.una + take16(in) + 1;
	sh.tcp.nxt = sh.tcp.end + fin;
	sh.tcp.fin = sh.tcp.end;
	sh.tcp.flags |= fin ? DP_SH_CLIENT_FIN : 0;
	sh.tcp.flags |= kind & 2 ? DP_SH_TS : 0;
	sh.tcp.rto_ms = 200;
	congestion_start_locked(&sh, 0);
	while (in->size) {
		__u32 op = take8(in), used = 0, seq, len;
		struct tcp_options opt = {};

		if (op % 4 == 0 && sh.tcp.una != sh.tcp.nxt) {
			len = take16(in) % (sh.tcp.nxt - sh.tcp.una + 1);
			sh.tcp.una += len;
			recovery_ack_locked(&sh, len, take8(in), op & 4, now += 1000000);
		} else if (op % 4 == 1) {
			recovery_dupack_locked(&sh);
			recovery_detect_locked(&sh);
			if (sh.tcp.flags & DP_SH_RECOVERY)
				congestion_reduce_locked(&sh, take16(in));
		} else if (op % 4 == 2) {
			for (__u32 i = 0; sh.tcp.flags & DP_SH_RECOVERY && i < op; i++) {
				if (!recovery_pending_locked(&sh))
					break;
				CHECK(!seq_before(sh.tcp.rtx, sh.tcp.una) &&
				      seq_before(sh.tcp.rtx, sh.tcp.recover));
				recovery_next_locked(&sh, &seq, &len, sh.tcp.mss, now);
				CHECK(len <= sh.tcp.mss);
				CHECK(!seq_before(seq, sh.tcp.una));
				CHECK(len || (fin && seq == sh.tcp.fin));
				CHECK(!seq_after(seq + len, sh.tcp.end));
				for (int r = 0; r < DP_MAX_SACK; r++)
					CHECK(sh.tcp.sacked[r].start == sh.tcp.sacked[r].end ||
					      !seq_before(seq, sh.tcp.sacked[r].end) ||
					      !seq_before(sh.tcp.sacked[r].start,
							  seq + (len ?: 1)));
			}
		} else {
			opt.n_sack = 1 + op / 4 % 4;
			for (int i = 0; i < opt.n_sack; i++) {
				bool wild = take8(in) & 1;

				opt.sack[i].start = sh.tcp.una + (wild ? take32(in) : take16(in));
				opt.sack[i].end =
					opt.sack[i].start + (wild ? take32(in) : take16(in) % 4096);
			}
			sack_locked(&sh, &opt);
		}
		recovery_count_locked(&sh);
		for (int i = 0; i < DP_MAX_SACK; i++) {
			__u32 from = sh.tcp.sacked[i].start - sh.tcp.una,
			      to = sh.tcp.sacked[i].end - sh.tcp.una;

			if (sh.tcp.sacked[i].start == sh.tcp.sacked[i].end)
				continue;
			used++;
			CHECK(from < to && to <= sh.tcp.nxt - sh.tcp.una);
			for (int j = 0; j < i; j++)
				CHECK(sh.tcp.sacked[j].start == sh.tcp.sacked[j].end ||
				      sh.tcp.sacked[j].end - sh.tcp.una < from ||
				      sh.tcp.sacked[j].start - sh.tcp.una > to);
		}
		CHECK(used == sh.tcp.n_sacked);
		CHECK(sack_bytes(&sh) <= sh.tcp.nxt - sh.tcp.una);
		CHECK(sack_high(&sh) - sh.tcp.una <= sh.tcp.nxt - sh.tcp.una);
		CHECK(sh.tcp.left_out <= sh.tcp.nxt - sh.tcp.una);
		CHECK(sh.tcp.left_out >= sack_bytes(&sh));
		CHECK(sh.tcp.lost - sh.tcp.una <= sh.tcp.nxt - sh.tcp.una);
		CHECK(sh.tcp.cwnd >= sh.tcp.mss && sh.tcp.ssthresh >= 2 * (__u32)sh.tcp.mss);
	}
}

/* Comparisons against 64-bit numbers less than 2^31 apart. */
static void arithmetic(struct input *in)
{
	__s64 a = (__s64)take32(in), d = (__s32)take32(in);
	__u32 x = a, y = a + d;

	if (d == -(1ll << 31))
		return; /* opposite: RFC 9293 knows no order here */
	CHECK(seq_before(x, y) == (d > 0));
	CHECK(seq_after(x, y) == (d < 0));
	CHECK(mask_before(x, y) == (d > 0 ? 0xffffffff : 0));
	CHECK(seq_max(x, y) == (d > 0 ? y : x) && mask_max(x, y) == seq_max(x, y));
	CHECK(seq_min(x, y) == (d > 0 ? x : y) && mask_min(x, y) == seq_min(x, y));
}

int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size)
{
	static const __u32 units[] = {1, 7, 1460, 1u << 16, 1u << 22};
	struct input in = {data, size};
	__u32 what = take8(&in);
	struct model m = {.unit = units[what / 4 % 5]};

	m.base = take32(&in);
	switch (what % 4) {
	case 0:
		presence(&in, &m);
		break;
	case 1:
		plain(&in, &m);
		break;
	case 2:
		scoreboard(&in);
		break;
	default:
		arithmetic(&in);
	}
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Joining in mid-stream: where does a request begin? Only at the first byte of a segment that
 * continues what was seen, and only by one of two proofs ("Decisions that differ from the first
 * design" in docs/design.md). Where in doubt, the flow waits.
 *
 *   answered  The client's last write was over (PSH), and since then it acknowledged bytes of an
 *             answer. PSH is what keeps an upload apart whose sender still gets answers to
 *             requests that it pipelined before: its segments follow a full one without PSH.
 *   command   The payload starts like a memcached command: text, meta or binary; or like one of
 *             Redis, where the mapping speaks that. Of a connection of which nothing was seen
 *             before, the source's socket tells besides that it has answered all that it took
 *             (source_awaits_request()): a value may consist of lines that look like commands.
 */
#ifndef DOPPEL_JOIN_BPF_H
#define DOPPEL_JOIN_BPF_H

#include "maps.bpf.h"
#include "packet/parse.bpf.h"

#define WORD4(a, b, c, d) ((__u32)(a) | (b) << 8 | (c) << 16 | (__u32)(d) << 24)

/* memcached's binary protocol: request header of 24 bytes, integers in network order. */
static __always_inline bool binary_command(const __u8 *b, __u32 len)
{
	__u32 key = (b[2] << 8) | b[3], extras = b[4];
	__u32 body = ((__u32)b[8] << 24) | (b[9] << 16) | (b[10] << 8) | b[11];

	return len >= 24 && b[0] == 0x80 && b[1] <= 0x46 && !b[5] && extras <= 20 && key <= 250 &&
	       body >= key + extras && body <= (1u << 30);
}

/* First words of doc/protocol.txt, memcached 1.6, with what must follow them. */
static __always_inline bool text_command(const __u8 *b)
{
	__u32 w = WORD4(b[0], b[1], b[2], b[3]);
	__u8 c4 = b[4], c5 = b[5], c6 = b[6], c7 = b[7];

	switch (w) {
	case WORD4('g', 'e', 't', ' '):
	case WORD4('s', 'e', 't', ' '):
	case WORD4('a', 'd', 'd', ' '):
	case WORD4('c', 'a', 's', ' '):
	case WORD4('g', 'a', 't', ' '):
	case WORD4('l', 'r', 'u', ' '):
	case WORD4('m', 'n', '\r', '\n'):
		return true;
	case WORD4('g', 'e', 't', 's'):
	case WORD4('g', 'a', 't', 's'):
	case WORD4('i', 'n', 'c', 'r'):
	case WORD4('d', 'e', 'c', 'r'):
		return c4 == ' ';
	case WORD4('q', 'u', 'i', 't'):
		return c4 == '\r' || c4 == '\n';
	case WORD4('t', 'o', 'u', 'c'):
		return c4 == 'h' && c5 == ' ';
	case WORD4('s', 't', 'a', 't'):
		return c4 == 's' && (c5 == ' ' || c5 == '\r' || c5 == '\n');
	case WORD4('d', 'e', 'l', 'e'):
		return c4 == 't' && c5 == 'e' && c6 == ' ';
	case WORD4('a', 'p', 'p', 'e'):
		return c4 == 'n' && c5 == 'd' && c6 == ' ';
	case WORD4('p', 'r', 'e', 'p'):
		return c4 == 'e' && c5 == 'n' && c6 == 'd' && c7 == ' ';
	case WORD4('r', 'e', 'p', 'l'):
		return c4 == 'a' && c5 == 'c' && c6 == 'e' && c7 == ' ';
	case WORD4('v', 'e', 'r', 's'):
	case WORD4('v', 'e', 'r', 'b'):
	case WORD4('f', 'l', 'u', 's'):
	case WORD4('w', 'a', 't', 'c'):
	case WORD4('s', 'l', 'a', 'b'):
	case WORD4('c', 'a', 'c', 'h'):
		return c4 >= '_' && c4 <= 'z' && c5 >= '_' && c5 <= 'z';
	default:
		/* Meta: mg, ms, md, ma, me. */
		return b[0] == 'm' && b[2] == ' ' && b[3] > ' ' &&
		       (b[1] == 'g' || b[1] == 's' || b[1] == 'd' || b[1] == 'a' || b[1] == 'e');
	}
}

/* RESP: an array of bulk strings, "*2\r\n$3\r\nGET...", as clients send it. Digits of its length:
 */
#define RESP_DIGITS 7

static __always_inline bool redis_command(const __u8 *b)
{
	bool ended = false, valid = b[0] == '*' && b[1] >= '1' && b[1] <= '9';

	for (int i = 2; i < 2 + RESP_DIGITS; i++) {
		if (ended || !valid)
			continue;
		ended = b[i] == '\r' && b[i + 1] == '\n' && b[i + 2] == '$';
		valid = ended || (b[i] >= '0' && b[i] <= '9');
	}
	return valid && ended;
}

/* The first bytes of the payload, and zeros behind them. Returns how many there are, 24 at most. */
static __always_inline __u32 read_start(struct __sk_buff *skb, const struct pkt *p, __u8 *b)
{
	__u32 len = p->payload < 24 ? p->payload : 24;

	if (!len)
		return 0;
	asm volatile("%[n] += -1\n\t%[n] &= 31\n\t%[n] += 1" : [n] "+r"(len));
	return bpf_skb_load_bytes(skb, p->data_off, b, len) ? 0 : len;
}

/* One of memcached's. */
static __always_inline bool starts_like_command(struct __sk_buff *skb, const struct pkt *p)
{
	__u8 b[32] = {};
	__u32 len = read_start(skb, p, b);

	return len && (text_command(b) || binary_command(b, len));
}

static __always_inline bool starts_like_redis(struct __sk_buff *skb, const struct pkt *p)
{
	__u8 b[32] = {};

	return read_start(skb, p, b) && redis_command(b);
}

static __always_inline bool command_seen(struct __sk_buff *skb, const struct pkt *p,
					 __u8 application, struct dp_limit *limit)
{
	bool command;

	if (application == DP_APP_REDIS)
		return starts_like_redis(skb, p);
	command = starts_like_command(skb, p);

	if (command && !limit->commands)
		limit->commands = 1;
	return command;
}

/* The same as below, for a flow of which this is the first segment that was seen. */
static __always_inline bool join_at_once(struct __sk_buff *skb, const struct pkt *p,
					 __u8 application, struct dp_limit *limit)
{
	return p->payload && !(p->flags & TCP_RST) && limit && application != DP_APP_ANY &&
	       command_seen(skb, p, application, limit);
}

/* Answered turns, one after the other, that make a boundary. At the first, the answer may have been
 * to an earlier request, and this one have begun before the moment of attach.
 */
#define ANY_TURNS 2
/* Of two answers to pipelined requests one may come before each of two pieces of a third. Where
 * nobody said that the requests cannot be read, and none was read yet, that is not enough.
 */
#define AUTO_TURNS 4

/*
 * May a shadow for this flow, which has none, begin with this segment?
 *
 * `auto` joins a flow of what looks like memcached at a command only, and any other by its
 * answered turns, as `any` does.
 */
static __always_inline bool join_boundary(struct __sk_buff *skb, const struct pkt *p,
					  struct dp_flow *flow, __u8 application,
					  struct dp_limit *limit)
{
	bool answered, command;

	if (!p->payload || (p->flags & (TCP_SYN | TCP_RST)) || !limit)
		return false;
	if (flow->seen && p->seq != flow->next)
		return false;
	answered = flow->seen && flow->ack_valid && flow->push && seq_after(p->ack, flow->ack);
	if (!answered)
		flow->answered_turns = 0;
	else if (flow->answered_turns < 255)
		flow->answered_turns++;
	if (application == DP_APP_ANY)
		return flow->answered_turns >= ANY_TURNS;
	if (flow->seen && !answered)
		return false;
	command = command_seen(skb, p, application, limit);
	return command || (application == DP_APP_AUTO && flow->answered_turns >= AUTO_TURNS &&
			   !limit->commands);
}

#endif

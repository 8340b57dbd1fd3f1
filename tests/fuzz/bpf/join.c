// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * join.bpf.h: which payload starts like a memcached command, against a table of doc/protocol.txt's
 * words; and that a join happens only where the stream goes on.
 */
#include "flow/join.bpf.h"
#include "check.h"

/* '*': any of _ a..z. '#': anything above a space. The payload is as if zeros followed it. */
static const char *const words[] = {
	"get ",	   "gets ",    "gat ",	  "gats ",   "set ",	"add ",	  "cas ",   "replace ",
	"append ", "prepend ", "delete ", "incr ",   "decr ",	"touch ", "lru ",   "mn\r\n",
	"quit\r",  "quit\n",   "stats ",  "stats\r", "stats\n", "vers**", "verb**", "flus**",
	"watc**",  "slab**",   "cach**",  "mg #",    "ms #",	"md #",	  "ma #",   "me #",
};

static bool matches(const char *word, const __u8 *b, __u32 len)
{
	for (__u32 i = 0; word[i]; i++) {
		__u8 c = i < len ? b[i] : 0;

		if (word[i] == '*'   ? !(c == '_' || c == '`' || (c >= 'a' && c <= 'z'))
		    : word[i] == '#' ? c <= ' '
				     : c != (__u8)word[i])
			return false;
	}
	return true;
}

static bool text(const __u8 *b, __u32 len)
{
	for (__u32 i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (matches(words[i], b, len))
			return true;
	return false;
}

/* docs/protocol-binary: magic, opcode, key length (2), extras length, data type, vbucket (2),
 * total body length (4), opaque (4), cas (8)
 */
static bool binary(const __u8 *b, __u32 len)
{
	__u64 body;
	__u32 key;

	if (len < 24 || b[0] != 0x80 || b[1] > 0x46 || b[4] > 20 || b[5] != 0)
		return false;
	key = b[2] * 256 + b[3];
	body = ((b[8] * 256ull + b[9]) * 256 + b[10]) * 256 + b[11];
	return key <= 250 && key + b[4] <= body && body <= 1ull << 30;
}

/* RESP: an array of 1 to 9,999,999 elements, the first of which is a bulk string. */
static bool redis(const __u8 *b, __u32 len)
{
	__u32 i = 1;

	if (!len || b[0] != '*')
		return false;
	while (i < len && b[i] >= (i == 1 ? '1' : '0') && b[i] <= '9')
		i++;
	return i > 1 && i <= 8 && i + 2 < len && b[i] == '\r' && b[i + 1] == '\n' &&
	       b[i + 2] == '$';
}

int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size)
{
	struct input in = {data, size};
	struct dp_flow flow = {}, before;
	struct dp_limit limit = {};
	struct __sk_buff *skb;
	struct pkt p = {};
	bool command, resp, joins;
	__u8 application;

	p.flags = take8(&in);
	application = take8(&in) % 4;
	flow.seen = take8(&in) & 1;
	flow.ack_valid = take8(&in) & 1;
	flow.push = take8(&in) & 1;
	flow.answered_turns = take8(&in);
	limit.commands = take8(&in) & 1;
	flow.next = take32(&in);
	flow.ack = take32(&in);
	p.seq = flow.next + (take8(&in) & 1 ? take32(&in) : 0);
	p.ack = flow.ack + take8(&in);
	p.data_off = take8(&in) % 8;
	if (p.data_off > in.size)
		p.data_off = in.size;
	p.payload = in.size - p.data_off;
	skb = host_packet(in.data, in.size, 0, 0);
	command = text(in.data + p.data_off, p.payload) || binary(in.data + p.data_off, p.payload);
	if (!p.payload)
		command = false;
	CHECK(starts_like_command(skb, &p) == command);
	resp = redis(in.data + p.data_off, p.payload);
	CHECK(starts_like_redis(skb, &p) == resp);
	if (application == DP_APP_REDIS)
		command = resp;

	before = flow;
	joins = join_boundary(skb, &p, &flow, application, &limit);
	if (joins) {
		CHECK(p.payload && !(p.flags & (TCP_SYN | TCP_RST)));
		CHECK(!before.seen || p.seq == before.next);
		CHECK((application != DP_APP_MEMCACHED && application != DP_APP_REDIS) || command);
		CHECK(application != DP_APP_ANY ||
		      (before.seen && before.ack_valid && before.push));
		CHECK(command || seq_after(p.ack, before.ack));
	}
	CHECK(flow.next == before.next && flow.ack == before.ack && flow.seen == before.seen);
	return 0;
}

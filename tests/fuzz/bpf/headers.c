// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * packet/parse, udp/parse and packet/csum_verify on any bytes, against a reader that works on the
 * frame itself and takes the RFCs' tables one by one.
 */
#include "packet/csum_verify.bpf.h"
#include "udp/parse.bpf.h"
#include "check.h"

struct told { /* by the options */
	__u32 mss, wscale, sack_ok, ts, tsval, tsecr, barred, blocks;
	__u32 block[4][2];
};

static __u32 be(const __u8 *b, int n)
{
	__u32 v = 0;

	while (n--)
		v = v << 8 | *b++;
	return v;
}

/* RFC 9293, 3.2: the last of its kind wins; a length that lies ends it. */
static struct told read_options(const __u8 *o, __u32 len)
{
	struct told t = {};
	__u32 i = 0;

	while (i < len && o[i] != TCPOPT_EOL) {
		__u32 n;

		if (o[i] == TCPOPT_NOP) {
			i++;
			continue;
		}
		if (i + 1 >= len || o[i + 1] < 2 || i + o[i + 1] > len)
			break;
		n = o[i + 1];
		if (o[i] == TCPOPT_MSS && n == 4)
			t.mss = be(o + i + 2, 2);
		if (o[i] == TCPOPT_WSCALE && n == 3)
			t.wscale = 1 + (o[i + 2] > 14 ? 14 : o[i + 2]);
		if (o[i] == TCPOPT_SACK_PERM && n == 2)
			t.sack_ok = 1;
		if (o[i] == TCPOPT_TIMESTAMP && n == 10) {
			t.ts = 1;
			t.tsval = be(o + i + 2, 4);
			t.tsecr = be(o + i + 6, 4);
		}
		if (o[i] == TCPOPT_MD5SIG || o[i] == TCPOPT_AO)
			t.barred = DP_EXCLUDED_tcp_auth;
		if (o[i] == TCPOPT_MPTCP && !t.barred)
			t.barred = DP_EXCLUDED_mptcp;
		if (o[i] == TCPOPT_SACK && n >= 10) {
			t.blocks = (n - 2) / 8;
			for (__u32 b = 0; b < t.blocks; b++) {
				t.block[b][0] = be(o + i + 2 + 8 * b, 4);
				t.block[b][1] = be(o + i + 6 + 8 * b, 4);
			}
		}
		i += n;
	}
	return t;
}

static void check_options(struct __sk_buff *skb, const __u8 *f, const struct pkt *p)
{
	const __u8 *o_at = f + p->l4_off + 20;
	struct told t = read_options(o_at, p->optlen);
	struct tcp_options o;

	parse_options(skb, p, &o);
	CHECK(o.mss == t.mss);
	CHECK(!!(o.flags & DP_SH_WSCALE) == !!t.wscale && (!t.wscale || o.wscale == t.wscale - 1));
	CHECK(!!(o.flags & DP_SH_SACK) == t.sack_ok);
	CHECK(!!(o.flags & DP_SH_TS) == t.ts && o.tsval == t.tsval && o.tsecr == t.tsecr);
	CHECK(o.barred == t.barred);
	CHECK(o.n_sack == t.blocks);
	for (__u32 b = 0; b < t.blocks; b++)
		CHECK(o.sack[b].start == t.block[b][0] && o.sack[b].end == t.block[b][1]);
	if (p->has_ts) {
		CHECK(be(o_at, 4) == 0x0101080a);
		CHECK(p->tsval == be(o_at + 4, 4));
	}
	CHECK(p->plain == (!p->optlen || (p->optlen == 12 && p->has_ts)));
}

/* RFC 1071, byte by byte. */
static __u32 sum(const __u8 *b, __u32 n, __u32 s)
{
	for (__u32 i = 0; i < n; i++)
		s += i & 1 ? b[i] : (__u32)b[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

/* RFC 8200, 4: where the header of TCP begins; 0: not in this packet, or not for this host. */
static __u32 find_tcp(const __u8 *f, __u32 size, __u32 *more)
{
	__u32 at = 54, next = f[20], step;

	*more = 0;
	for (__u32 n = 0; next != 6; n++) {
		if (n == 8 || at + 4 > size ||
		    (next != 0 && next != 43 && next != 44 && next != 60))
			return 0;
		if (next == 43 && f[at + 3])
			return 0;
		if (next == 44) {
			if (be(f + at + 2, 2) >> 3)
				return 0;
			*more = f[at + 3] & 1;
		}
		step = next == 44 ? 8 : 8 + f[at + 1] * 8;
		next = f[at];
		at += step;
	}
	return at;
}

static bool is_mapped(const __u8 *a)
{
	return !be(a, 4) && !be(a + 4, 4) && be(a + 8, 4) == 0xffff;
}

/* The part that both versions have: the segment at `l4` is whole. */
static void check_segment(struct __sk_buff *skb, const __u8 *f, struct pkt *p, __u32 addresses,
			  __u32 address_len, __u32 gso_size)
{
	__u32 whole = p->data_off - p->l4_off + p->payload, pseudo;

	CHECK(p->optlen == (f[p->l4_off + 12] >> 4) * 4 - 20);
	if (!(p->flags & TCP_SYN))
		parse_timestamp(skb, p);
	else
		p->plain = p->plain && !p->optlen;
	if (!(p->flags & TCP_SYN))
		check_options(skb, f, p);
	pseudo = sum(f + addresses, address_len, 6 + whole % 65536 + whole / 65536);
	/* Nobody vouches for it, whatever its field holds; a GRO packet is vouched for. */
	CHECK(checksum_ok(skb, p) == (gso_size || sum(f + p->l4_off, whole, pseudo) == 0xffff));
}

static void check_v6(struct __sk_buff *skb, const __u8 *f, __u32 size, struct pkt *p,
		     enum pkt_shape v, __u32 gso_segs, __u32 gso_size)
{
	__u32 more, l4, length, headers;

	CHECK(size >= 74 && be(f + 12, 2) == 0x86dd && f[14] >> 4 == 6);
	CHECK(!is_mapped(f + 22) && !is_mapped(f + 38));
	l4 = find_tcp(f, size, &more);
	CHECK(l4 && l4 + 20 <= size && p->v6 && p->l4_off == l4 && p->ttl == f[21]);
	CHECK(!__builtin_memcmp(&p->saddr, f + 22, 16) && !__builtin_memcmp(&p->daddr, f + 38, 16));
	CHECK(bpf_ntohs(p->sport) == be(f + l4, 2) && bpf_ntohs(p->dport) == be(f + l4 + 2, 2));
	CHECK(p->seq == be(f + l4 + 4, 4) && p->ack == be(f + l4 + 8, 4) && p->flags == f[l4 + 13]);
	length = be(f + 18, 2);
	if (!length && gso_segs)
		length = size - 54;
	headers = l4 - 54 + (f[l4 + 12] >> 4) * 4;
	CHECK(p->payload == (length > headers ? length - headers : 0));
	if (v == PKT_MALFORMED) {
		CHECK(f[l4 + 12] >> 4 < 5 || length < headers);
		return;
	}
	CHECK(f[l4 + 12] >> 4 >= 5 && length >= headers);
	if (v == PKT_FRAGMENT)
		CHECK(more);
	else if (v == PKT_TRUNCATED)
		CHECK(!more && length + 54 > size);
	else if (v == PKT_IPOPTIONS)
		CHECK(!more && l4 > 54 && length + 54 <= size);
	else
		CHECK(v == PKT_TCP && !more && l4 == 54 &&
		      p->data_off + p->payload == length + 54 && length + 54 <= size);
	if (v == PKT_TCP)
		check_segment(skb, f, p, 22, 32, gso_size);
}

/* What is told of a datagram, or of a fragment of one. */
static void check_udp(struct __sk_buff *skb, const __u8 *f, __u32 size, __u32 gso_segs,
		      __u32 gso_size)
{
	__u32 l4, len, space, whole, pseudo;
	struct pkt p = {};
	enum pkt_shape v = udp_parse(skb, &p);
	bool six, more;

	if (v == PKT_NONE)
		return;
	six = be(f + 12, 2) == 0x86dd;
	l4 = p.l4_off;
	CHECK(size >= 34 && p.udp && p.v6 == six && p.ttl == f[six ? 21 : 22]);
	CHECK(six ? f[14] >> 4 == 6 && l4 >= 54 : f[14] >> 4 == 4 && f[23] == 17);
	CHECK(six || (l4 == 14 + (f[14] & 15) * 4 && p.seq == be(f + 18, 2)));
	if (v == PKT_UDP_LATER) {
		CHECK(six ? l4 == 62 && f[54] == 17 : l4 == 34 && (be(f + 20, 2) & 0x1fff));
		return;
	}
	more = six ? l4 >= 62 && v == PKT_UDP_FIRST : be(f + 20, 2) & 0x2000;
	CHECK(six || !(be(f + 20, 2) & 0x1fff));
	CHECK(l4 + 8 <= size && p.data_off == l4 + 8);
	CHECK(bpf_ntohs(p.sport) == be(f + l4, 2) && bpf_ntohs(p.dport) == be(f + l4 + 2, 2));
	len = be(f + l4 + 4, 2);
	CHECK(p.payload == (len > 8 ? len - 8 : 0));
	if (v == PKT_MALFORMED)
		return;
	space = six ? be(f + 18, 2) + 54 - l4 : be(f + 16, 2) + 14 - l4;
	CHECK(len >= 8);
	CHECK(more || v == PKT_IPOPTIONS || v == PKT_TRUNCATED || len <= space);
	CHECK(six || l4 > 34 || gso_segs || sum(f + 14, 20, 0) == 0xffff);
	CHECK((v == PKT_TRUNCATED) == (l4 + space > size));
	if (v != PKT_UDP)
		return;
	CHECK(l4 == (six ? 54 : 34) && p.data_off + p.payload <= size && (!six || p.check));
	whole = 8 + p.payload;
	pseudo = sum(f + (six ? 22 : 26), six ? 32 : 8, 17 + whole);
	if (p.check)
		CHECK(checksum_ok(skb, &p) == (gso_size || sum(f + l4, whole, pseudo) == 0xffff));
}

int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size)
{
	struct input in = {data, size};
	__u8 how = take8(&in);
	__u32 gso_segs = how & 3, gso_size = 0, total, doff, whole, ihl, l4, length;
	__u8 copy[2048];
	struct __sk_buff *skb;
	enum pkt_shape v;
	struct pkt p = {};
	const __u8 *f = in.data;

	if (take8(&in) & 1)
		gso_size = take8(&in);
	f = in.data;
	if (!(how & 4) && in.size >= 34 && be(f + 12, 2) == 0x0800 &&
	    in.size <= sizeof(copy)) { /* a good IP header checksum */
		__builtin_memcpy(copy, in.data, in.size);
		copy[24] = copy[25] = 0;
		whole = sum(copy + 14, 20, 0) ^ 0xffff;
		copy[24] = whole >> 8;
		copy[25] = whole;
		f = copy;
	}
	skb = host_packet(f, in.size, gso_segs, gso_size);
	v = parse(skb, &p);
	if (v == PKT_NONE) {
		check_udp(skb, f, in.size, gso_segs, gso_size);
		return 0;
	}
	if (be(f + 12, 2) == 0x86dd) {
		check_v6(skb, f, in.size, &p, v, gso_segs, gso_size);
		return 0;
	}
	CHECK(in.size >= 54 && be(f + 12, 2) == 0x0800 && f[14] >> 4 == 4 && f[23] == 6);
	CHECK((f[14] & 15) >= 5 && !(be(f + 20, 2) & 0x1fff));
	CHECK(addr_v4(&p.saddr) == *(__u32 *)__builtin_memcpy(&(__u32){0}, f + 26, 4));
	CHECK(p.payload <= 0xffff + (gso_segs ? in.size : 0));
	ihl = (f[14] & 15) * 4;
	l4 = 14 + ihl;
	CHECK(bpf_ntohs(p.sport) == be(f + l4, 2) && bpf_ntohs(p.dport) == be(f + l4 + 2, 2));
	CHECK(p.seq == be(f + l4 + 4, 4) && p.ack == be(f + l4 + 8, 4) && p.flags == f[l4 + 13]);
	total = be(f + 16, 2);
	doff = f[l4 + 12] >> 4;
	length = !total && gso_segs ? in.size - 14 : total;
	if (v == PKT_MALFORMED) {
		CHECK(doff < 5 || length < ihl + doff * 4 ||
		      (ihl == 20 && !gso_segs && sum(f + 14, 20, 0) != 0xffff));
		return 0;
	}
	CHECK(doff >= 5 && length >= ihl + doff * 4);
	CHECK(ihl > 20 || gso_segs || sum(f + 14, 20, 0) == 0xffff);
	if (v == PKT_FRAGMENT) {
		CHECK(be(f + 20, 2) & 0x2000);
		return 0;
	}
	if (v == PKT_TRUNCATED) {
		CHECK(length + 14 > in.size);
		return 0;
	}
	if (v == PKT_IPOPTIONS) {
		CHECK(ihl > 20);
		return 0;
	}
	CHECK(v == PKT_TCP);
	CHECK(p.data_off == 34 + doff * 4 && p.data_off + p.payload <= in.size);
	CHECK(total ? p.data_off + p.payload == total + 14 : p.data_off + p.payload == in.size);
	check_segment(skb, f, &p, 26, 8, gso_size);
	return 0;
}

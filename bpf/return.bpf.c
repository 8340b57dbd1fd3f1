// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Return: what the target says to a shadow. Such a packet is consumed here: this host's stack
 * would reset it, and no client may see it. Everything else passes with TC_ACT_UNSPEC.
 */
#include "netns.bpf.h"
#include "packet/csum_verify.bpf.h"
#include "flow/judge.bpf.h"
#include "flow/kept.bpf.h"
#include "packet/parse.bpf.h"
#include "socket.bpf.h"
#include "tcp/answer.bpf.h"
#include "tcp/input.bpf.h"
#include "tcp/loss.bpf.h"
#include "tcp/path_mtu.bpf.h"

/* Does the packet come from the shadow's target, to the shadow? */
static __always_inline bool is_for_shadow(const struct pkt *p, const struct dp_shadow *sh)
{
	return addr_eq(&p->saddr, &sh->ep.address) && p->sport == sh->ep.target_port &&
	       addr_eq(&p->daddr, &sh->ep.shadow_addr);
}

/*
 * A copy that comes in for a target on this host, of which no socket is there. Its IP says so by a
 * RST only where the route is one to a local address (tcp_v4_send_reset), and what
 * bpf_redirect_neigh() finds on lo is none where another device has the address (fib_lookup). So
 * *p becomes that RST (RFC 9293, 3.10.7.1), and the copy ends here.
 */
static __noinline bool is_refused_here(struct __sk_buff *skb, struct pkt *p)
{
	__u32 place = place_of_port(bpf_ntohs(p->sport));
	struct dp_shadow *sh;
	struct dp_addr own;
	__be16 port;

	if (place >= cfg.ports)
		return false;
	sh = shadow_at(slot_of(&p->saddr, place));
	if (!sh || sh->ep.oif != DP_LOOPBACK || !shadow_is_open(sh) ||
	    !addr_eq(&p->daddr, &sh->ep.address) || p->dport != sh->ep.target_port ||
	    !addr_eq(&p->saddr, &sh->ep.shadow_addr) || (p->flags & TCP_RST) ||
	    any_socket_for(skb, p))
		return false;
	p->seq += p->payload + !!(p->flags & TCP_SYN) + !!(p->flags & TCP_FIN);
	if (p->flags & TCP_ACK) {
		p->seq = p->ack;
		p->flags = TCP_RST;
	} else {
		p->ack = p->seq;
		p->seq = 0;
		p->flags = TCP_RST | TCP_ACK;
	}
	own = p->saddr;
	p->saddr = p->daddr;
	p->daddr = own;
	port = p->sport;
	p->sport = p->dport;
	p->dport = port;
	p->payload = 0;
	return true;
}

static __always_inline int consume(struct __sk_buff *skb)
{
	enum input_action act;
	enum pkt_shape shape;
	struct dp_shadow *sh;
	struct pkt p = {};
	__u32 place, slot, gen;
	bool refused;

	shape = parse(skb, &p);
	if (shape == PKT_NONE)
		return TC_ACT_UNSPEC;
	refused = skb->ifindex == DP_LOOPBACK && shape == PKT_TCP && is_refused_here(skb, &p);
	place = place_of_port(bpf_ntohs(p.dport));
	if (place >= cfg.ports)
		return TC_ACT_UNSPEC;
	slot = slot_of(&p.daddr, place);
	sh = shadow_at(slot);
	if (!sh || sh->tcp.state == DP_CLOSED || !sh->ep.oif || (sh->tcp.flags & DP_SH_UDP))
		return TC_ACT_UNSPEC;
	gen = sh->gen; /* before the identity, which changes after it */
	if (!is_for_shadow(&p, sh) || !netns_is_ours(skb))
		return TC_ACT_UNSPEC;
	/* For another host's address on this wire: TCP would not take it either. */
	if (skb->pkt_type != PACKET_HOST)
		return TC_ACT_UNSPEC;
	if (is_martian(skb, sh))
		return TC_ACT_UNSPEC;
	if ((sh->tcp.state == DP_SYN_SENT || sh->tcp.state == DP_TIME_WAIT) &&
	    is_clients_own(slot, p.flags, p.ack))
		return TC_ACT_UNSPEC;
	/* A remembered port is nobody's: a program of this host may take it meanwhile, by an
	 * explicit bind, and then the packet is its own.
	 */
	if (sh->tcp.state == DP_TIME_WAIT && socket_exists_for(skb, &p))
		return TC_ACT_UNSPEC;
	if (shape != PKT_TCP)
		return TC_ACT_SHOT; /* nothing a shadow can use, and our stack would reset it */
	if (!refused && !checksum_ok(skb, &p)) {
		ledger_event(shadow_ledger(sh), DP_EVENT_bad_checksum);
		return TC_ACT_SHOT;
	}
	forget_priority_tag(skb);
	/* Not in there: the verifier would walk all of it for each way to read them. */
	if (!(p.flags & TCP_SYN) && !refused)
		parse_timestamp(skb, &p);
	act = tcp_input(skb, &p, slot, gen);
	if (act & INPUT_RECOVERY)
		act = tcp_recovery(skb, &p, slot, gen, act & ~INPUT_RECOVERY);
	/* What is beyond a hole that was filled since may wait for nothing but this. */
	if (shadow_is_ahead(sh) && act != INPUT_HALF_OPEN && act != INPUT_RST &&
	    shadow_ask_source(skb, slot, gen))
		act = INPUT_WORK;
	clock_look(skb);
	return tcp_answer(skb, sh, slot, &p, act);
}

SEC("tc")
int doppel_return(struct __sk_buff *skb)
{
	__s32 port = peek_port(skb);
	int verdict;

	if (port == PEEK_OTHER)
		return peek_icmp(skb) ? path_error(skb) : TC_ACT_UNSPEC;
	if (port >= 0 && place_of_port(port & 0xffff) >= cfg.ports && skb->ifindex != DP_LOOPBACK)
		return TC_ACT_UNSPEC;
	verdict = peek_is_udp(port) ? TC_ACT_UNSPEC : consume(skb);
	/* Where it is UDP the call does not come back. */
	if (verdict == TC_ACT_UNSPEC && (port == PEEK_UNKNOWN || peek_is_udp(port)))
		bpf_tail_call(skb, &udp_programs, DP_UDP_RETURN);
	return verdict;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";

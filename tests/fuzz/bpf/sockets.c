// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The kernel's structures of a socket, as vmlinux.h has them. Each conversion is void with the
 * next; a program holds one socket at a time.
 */
#include "bpf_helpers.h"
#include "socket.h"

struct tcp_sock *bpf_skc_to_tcp_sock(void *sk)
{
	const struct host_socket *s = sk;
	static struct tcp_sock tp;

	tp.rcv_nxt = s->rcv_nxt;
	tp.rcv_wup = s->rcv_nxt;
	tp.rcv_wnd = s->rcv_wnd;
	tp.snd_una = s->snd_una;
	tp.snd_nxt = s->snd_nxt;
	tp.write_seq = s->snd_nxt;
	tp.max_window = s->max_window;
	tp.rx_opt.ts_recent = s->ts_recent;
	return &tp;
}

struct tcp_request_sock *bpf_skc_to_tcp_request_sock(void *sk)
{
	const struct host_socket *s = sk;
	static struct tcp_request_sock req;

	req.rcv_isn = s->rcv_isn;
	req.snt_isn = s->snt_isn;
	req.req.req.__req_common.skc_rcv_wnd = s->rcv_wnd;
	return &req;
}

struct tcp_timewait_sock *bpf_skc_to_tcp_timewait_sock(void *sk)
{
	const struct host_socket *s = sk;
	static struct tcp_timewait_sock tw;

	tw.tw_sk.__tw_common.skc_tw_snd_nxt = s->snd_nxt;
	tw.tw_sk.__tw_common.skc_tw_rcv_nxt = s->rcv_nxt;
	tw.tw_sk.tw_substate = s->substate;
	return &tw;
}

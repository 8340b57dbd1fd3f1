/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause */
/*
 * A socket of the host's kernel: what is known of a conversation, whatever kind of socket has it.
 * bpf_skc_to_*() make the kernel's own structures of it (sockets.c). Both sides include this behind
 * their own definition of struct bpf_sock.
 */
#ifndef DOPPEL_FUZZ_SOCKET_H
#define DOPPEL_FUZZ_SOCKET_H

struct host_socket {
	struct bpf_sock sock; /* first: the programs' pointer to it is the host_socket's */
	__u32 rcv_isn;
	__u32 snt_isn;
	__u32 rcv_nxt;
	__u32 rcv_wnd;
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 max_window;
	__u32 ts_recent;
	__u32 substate; /* of TIME-WAIT */
};

#endif

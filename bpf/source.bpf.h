/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is known of the source's end of a conversation, whoever tells. */
#ifndef DOPPEL_SOURCE_BPF_H
#define DOPPEL_SOURCE_BPF_H

#include "vmlinux.h"

enum source_state {
	SOURCE_NOT_ASKED = 0,
	SOURCE_NONE,	     /* no socket has such a connection */
	SOURCE_SYN_RECEIVED, /* the source answered the client's SYN */
	SOURCE_SYNCHRONIZED, /* ESTABLISHED, and what follows it but TIME-WAIT */
	SOURCE_TIME_WAIT,    /* it takes no text, and a FIN if it has none */
	SOURCE_IS_REMOTE,    /* on a client host: the socket that sends the packet is known */
	SOURCE_UNSEEN,	     /* forwarded, or on a mirror port: no socket here can tell */
};

/*
 * The source's end of a conversation (RFC 9293, 3.3.1), for the packet that is being captured.
 * A moment's state, read without the socket's lock. It only lags: a segment in the socket's
 * backlog is not in RCV.NXT yet. Sequence numbers in host order.
 */
struct source {
	__u8 state;    /* enum source_state; what follows is valid from SYN-RECEIVED to TIME-WAIT */
	__u8 fin;      /* the source has the client's FIN; rcv_nxt does not count it */
	__u8 answered; /* it has said something since it took something, as far as is known */
	__u8 whole;    /* it takes no text that ends beyond rcv_end */
	__u32 rcv_nxt; /* every byte below it was taken */
	__u32 rcv_end; /* right edge of the window that was offered */
	__u32 ack_min; /* acknowledgements from here to ack_max are acceptable (RFC 5961, 5.2) */
	__u32 ack_max;
	__u32 ts_recent; /* TS.Recent (RFC 7323, 4.3); 0: no timestamps */
};

#endif

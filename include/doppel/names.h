/* SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause */
/*
 * Names of programs, maps, pins and links, for both sides.
 *
 * Every program name starts with DP_PROG_PREFIX and fits BPF_OBJ_NAME_LEN (16
 * with the NUL): that is how `status` and `detach` tell ours from a neighbour's.
 */
#ifndef DOPPEL_NAMES_H
#define DOPPEL_NAMES_H

#define DP_PROG_PREFIX	"doppel_"
#define DP_PROG_INGRESS "doppel_ingress" /* capture on a server: TC ingress */
#define DP_PROG_EGRESS	"doppel_egress"	 /* capture on a client host: TC egress */
#define DP_PROG_COPIES	"doppel_copies"	 /* what capture calls for more copies of a flow */
#define DP_PROG_DELIVER "doppel_deliver" /* TC egress and ingress of doppel0 */
#define DP_PROG_RETURN	"doppel_return"	 /* TC ingress of every Ethernet device */
#define DP_PROG_COMMAND "doppel_command" /* BPF_PROG_RUN only */
/* What these call for UDP, in the order of enum dp_udp_program. */
#define DP_PROG_UDP_INGRESS "doppel_udp_in"
#define DP_PROG_UDP_EGRESS  "doppel_udp_out"
#define DP_PROG_UDP_RETURN  "doppel_udp_ret"
#define DP_PROG_UDP_DELIVER "doppel_udp_dlv"

/* All of them: each has a pin below DP_PIN_PROGS. */
#define DP_PROGS                                                                                   \
	DP_PROG_INGRESS, DP_PROG_EGRESS, DP_PROG_COPIES, DP_PROG_DELIVER, DP_PROG_RETURN,          \
		DP_PROG_COMMAND, DP_PROG_UDP_INGRESS, DP_PROG_UDP_EGRESS, DP_PROG_UDP_RETURN,      \
		DP_PROG_UDP_DELIVER

/* The link on which copies are rewritten, and its unused veth peer. */
#define DP_LINK	     "doppel0"
#define DP_LINK_PEER "doppel1"

/* <bpffs>/doppel/v<ABI>/{maps,progs,links}/ */
#define DP_PIN_DIR   "doppel"
#define DP_PIN_MAPS  "maps"
#define DP_PIN_PROGS "progs"
#define DP_PIN_LINKS "links"

#endif

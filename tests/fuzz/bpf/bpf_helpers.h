/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stands in for libbpf's header of this name where the BPF sources are compiled for the host. The
 * helpers are defined by kernel.cpp; their signatures are those of bpf-helpers(7).
 */
#ifndef DOPPEL_FUZZ_BPF_HELPERS_H
#define DOPPEL_FUZZ_BPF_HELPERS_H

#include "vmlinux.h"

#define SEC(name)
#define __uint(name, val)      int(*name)[val]
#define __type(name, val)      typeof(val) *name
#define __array(name, val)     typeof(val) *name[]
#define __always_inline	       inline __attribute__((always_inline))
#define __noinline	       __attribute__((noinline))
#define __weak		       __attribute__((weak))
#define NULL		       ((void *)0)
#define offsetof(type, member) __builtin_offsetof(type, member)

void *bpf_map_lookup_elem(const void *map, const void *key);
long bpf_map_update_elem(const void *map, const void *key, const void *value, __u64 flags);
long bpf_map_delete_elem(const void *map, const void *key);
long bpf_map_push_elem(const void *map, const void *value, __u64 flags);
long bpf_map_pop_elem(const void *map, void *value);
long bpf_map_peek_elem(const void *map, void *value);
long bpf_ringbuf_output(const void *map, void *data, __u64 size, __u64 flags);

void bpf_spin_lock(struct bpf_spin_lock *lock);
void bpf_spin_unlock(struct bpf_spin_lock *lock);
__u64 bpf_ktime_get_coarse_ns(void);
__u32 bpf_get_smp_processor_id(void);
__u64 bpf_ktime_get_ns(void);
__u32 bpf_get_prandom_u32(void);
long bpf_loop(__u32 n, void *callback, void *context, __u64 flags);
long bpf_timer_init(struct bpf_timer *timer, const void *map, __u64 flags);
long bpf_timer_set_callback(struct bpf_timer *timer, void *callback);
long bpf_timer_start(struct bpf_timer *timer, __u64 ns, __u64 flags);
long bpf_skb_vlan_pop(struct __sk_buff *skb);
long bpf_probe_read_kernel(void *to, __u32 size, const void *from);

long bpf_skb_load_bytes(const void *skb, __u32 offset, void *to, __u32 len);
long bpf_skb_store_bytes(struct __sk_buff *skb, __u32 offset, const void *from, __u32 len,
			 __u64 flags);
long bpf_skb_change_tail(struct __sk_buff *skb, __u32 len, __u64 flags);
long bpf_skb_change_proto(struct __sk_buff *skb, __be16 protocol, __u64 flags);
long bpf_l4_csum_replace(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags);
__s64 bpf_csum_diff(__be32 *from, __u32 from_size, __be32 *to, __u32 to_size, __u32 seed);
long bpf_tcp_check_syncookie(void *sk, void *iph, __u32 iph_len, void *th, __u32 th_len);
long bpf_skb_change_type(struct __sk_buff *skb, __u32 type);
__u64 host_ip_summed(const void *skb);
__s64 bpf_csum_update(struct __sk_buff *skb, __wsum sum);
long bpf_clone_redirect(struct __sk_buff *skb, __u32 ifindex, __u64 flags);
long bpf_tail_call(void *ctx, const void *programs, __u32 index);
long bpf_redirect(__u32 ifindex, __u64 flags);
long bpf_redirect_neigh(__u32 ifindex, void *params, int plen, __u64 flags);
long bpf_fib_lookup(void *ctx, struct bpf_fib_lookup *params, int plen, __u32 flags);

struct bpf_sock *bpf_skc_lookup_tcp(void *ctx, struct bpf_sock_tuple *tuple, __u32 size,
				    __u64 netns, __u64 flags);
struct bpf_sock *bpf_sk_lookup_tcp(void *ctx, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns,
				   __u64 flags);
struct bpf_sock *bpf_sk_lookup_udp(void *ctx, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns,
				   __u64 flags);
struct tcp_request_sock *bpf_skc_to_tcp_request_sock(void *sk);
struct tcp_timewait_sock *bpf_skc_to_tcp_timewait_sock(void *sk);
struct tcp_sock *bpf_skc_to_tcp_sock(void *sk);
long bpf_sk_release(void *sk);

#endif

// SPDX-License-Identifier: Apache-2.0
// There is no kernel to read of: every read fails.
#pragma once

static inline long bpf_core_read(void *to, __u32 size, const void *from)
{
	(void)to;
	(void)size;
	(void)from;
	return -1;
}

/* Of the newest kernel. */
#define bpf_core_enum_value_exists(type, value) 1
#define bpf_core_field_exists(field)		1
/* The one that is read. */
#define BPF_CORE_READ_BITFIELD_PROBED(packet, field) host_ip_summed(packet)

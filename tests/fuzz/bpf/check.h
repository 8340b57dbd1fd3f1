/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For targets in C, which see the kernel's types and therefore no header of libc. */
#ifndef DOPPEL_FUZZ_CHECK_H
#define DOPPEL_FUZZ_CHECK_H

#include "vmlinux.h"

int printf(const char *format, ...);
int fflush(void *stream);
int memcmp(const void *a, const void *b, unsigned long n);

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("INVARIANT: %s, line %d\n", #condition, __LINE__);                  \
			fflush((void *)0);                                                         \
			__builtin_trap();                                                          \
		}                                                                                  \
	} while (0)

/* The packet of this input, as the helpers see it; the next call replaces it. */
struct __sk_buff *host_packet(const unsigned char *data, unsigned long size, unsigned gso_segs,
			      unsigned gso_size);

/* The maps are empty, and the clock begins. */
void host_reset(void);

/* The input, byte by byte; zeros behind its end. */
struct input {
	const unsigned char *data;
	unsigned long size;
};

static inline unsigned take8(struct input *in)
{
	if (!in->size)
		return 0;
	in->size--;
	return *in->data++;
}

static inline unsigned take16(struct input *in)
{
	unsigned high = take8(in);

	return high << 8 | take8(in);
}

static inline unsigned take32(struct input *in)
{
	unsigned high = take16(in);

	return high << 16 | take16(in);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long size);

#endif

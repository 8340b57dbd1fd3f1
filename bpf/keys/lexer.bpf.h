/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * memcached's requests, byte by byte: which command, and which key (doc/protocol.txt,
 * memcached 1.6; the binary protocol's header of 24 bytes). It needs no helper and no map, and a
 * line or a header may be cut anywhere. Values are not looked at: their length is known before.
 */
#ifndef DOPPEL_KEYS_LEXER_BPF_H
#define DOPPEL_KEYS_LEXER_BPF_H

#ifdef __bpf__
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#endif
#include "doppel/abi.h"

enum lexer_mode {
	LEXER_LINE = 0, /* in a line of text, or before anything */
	LEXER_HEADER,	/* in the header of a binary request */
	LEXER_KEY,	/* in its key */
};

/* A connection has one for good, by its first byte (try_read_command_negotiate). */
enum lexer_protocol {
	LEXER_UNKNOWN = 0,
	LEXER_TEXT,
	LEXER_BINARY,
};

enum lexer_traits {
	LEXER_MANY = 1 << 0, /* the line names several keys */
	LEXER_BAD = 1 << 1,  /* of the key or the size: the server refuses the line */
	LEXER_META = 1 << 2, /* flags follow the key */
	LEXER_ODD = 1 << 3,  /* a number of which servers may differ what it is, or if it is one */
};

enum lexer_found {
	LEXER_NOTHING = 0,
	LEXER_A_KEY, /* note.kind, note.key; valid until the next byte */
	LEXER_FLUSH, /* every key is concerned */
	LEXER_LOST,  /* this is no request: where the next one begins is not known */
};

#define LEXER_KEY_MOST 250u /* bytes (KEY_MAX_LENGTH) */
/* Bytes of a value. One that is too large for the server is read and dropped up to this size. */
#define LEXER_SIZE_MOST	  ((1u << 31) - 3)
#define LEXER_HEADER_SIZE 24u

/* Where a request stands between two bytes. All zero: before the first. */
struct lexer {
	__u64 word; /* the first eight characters of the line */
	__u32 skip; /* so many bytes are no part of a line: the value, and what ends it */
	__u32 hash; /* of the key (FNV-1a) */
	__u8 mode;  /* enum lexer_mode */
	__u8 token; /* which word of the line; saturates */
	__u8 at;    /* characters of it so far; saturates. Of a header or key: bytes so far */
	__u8 traits;
	__u8 key_token;
	__u8 size_token; /* 0: no value follows */
	__u8 key_size;	 /* of a binary request, bytes */
	__u8 returned;	 /* the last character was a \r */
	__u8 protocol;	 /* enum lexer_protocol */
	__u8 pad[7];
	struct dp_key_note note;
};

/* False: a request begins at the next byte that is not skipped. */
static __always_inline bool lexer_is_in_request(const struct lexer *l)
{
	return l->mode != LEXER_LINE || l->token || l->at;
}

#define LEXER_WORD(a, b, c, d, e, f, g, h)                                                         \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 |   \
	 (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)

/* The first word of a line is over. */
static __always_inline void lexer_take_word(struct lexer *l)
{
	l->key_token = 1;
	switch (l->word) {
	case LEXER_WORD('g', 'e', 't', 0, 0, 0, 0, 0):
	case LEXER_WORD('g', 'e', 't', 's', 0, 0, 0, 0):
		l->note.kind = DP_KEY_READ;
		l->traits = LEXER_MANY;
		break;
	case LEXER_WORD('g', 'a', 't', 0, 0, 0, 0, 0):
	case LEXER_WORD('g', 'a', 't', 's', 0, 0, 0, 0):
		l->note.kind = DP_KEY_DEPENDENT;
		l->traits = LEXER_MANY;
		l->key_token = 2;
		break;
	case LEXER_WORD('s', 'e', 't', 0, 0, 0, 0, 0):
		l->note.kind = DP_KEY_STORE;
		l->size_token = 4;
		break;
	case LEXER_WORD('a', 'd', 'd', 0, 0, 0, 0, 0):
	case LEXER_WORD('c', 'a', 's', 0, 0, 0, 0, 0):
	case LEXER_WORD('a', 'p', 'p', 'e', 'n', 'd', 0, 0):
	case LEXER_WORD('p', 'r', 'e', 'p', 'e', 'n', 'd', 0):
	case LEXER_WORD('r', 'e', 'p', 'l', 'a', 'c', 'e', 0):
		l->note.kind = DP_KEY_DEPENDENT;
		l->size_token = 4;
		break;
	case LEXER_WORD('i', 'n', 'c', 'r', 0, 0, 0, 0):
	case LEXER_WORD('d', 'e', 'c', 'r', 0, 0, 0, 0):
	case LEXER_WORD('t', 'o', 'u', 'c', 'h', 0, 0, 0):
		l->note.kind = DP_KEY_DEPENDENT;
		break;
	case LEXER_WORD('d', 'e', 'l', 'e', 't', 'e', 0, 0):
		l->note.kind = DP_KEY_DELETE;
		break;
	case LEXER_WORD('m', 'g', 0, 0, 0, 0, 0, 0):
		l->note.kind = DP_KEY_READ;
		l->traits = LEXER_META;
		break;
	case LEXER_WORD('m', 's', 0, 0, 0, 0, 0, 0):
		l->note.kind = DP_KEY_STORE;
		l->traits = LEXER_META;
		l->size_token = 2;
		break;
	case LEXER_WORD('m', 'd', 0, 0, 0, 0, 0, 0):
		l->note.kind = DP_KEY_DELETE;
		l->traits = LEXER_META;
		break;
	case LEXER_WORD('m', 'a', 0, 0, 0, 0, 0, 0):
		l->note.kind = DP_KEY_DEPENDENT;
		l->traits = LEXER_META;
		break;
	case LEXER_WORD('f', 'l', 'u', 's', 'h', '_', 'a', 'l'):
		l->note.kind = DP_KEY_FLUSH;
		break;
	default:
		break;
	}
}

/* The first character of a meta command's flag. */
static __always_inline void lexer_take_flag(struct lexer *l, __u8 c)
{
	bool depends;

	if (c == 'b')
		l->note.traits |= DP_KEY_BASE64;
	else if (c == 'I' && l->note.kind != DP_KEY_READ)
		l->note.traits |= DP_KEY_STALE;
	if (l->note.kind == DP_KEY_READ) /* touch, vivify, recache: whoever comes first wins */
		depends = c == 'T' || c == 'N' || c == 'R';
	else if (l->note.kind == DP_KEY_STORE) /* compare, invalidate, mode */
		depends = c == 'C' || c == 'I' || c == 'M';
	else /* compare, invalidate, touch, and what keeps the item */
		depends = c == 'C' || c == 'I' || c == 'T' || c == 'x';
	if (depends)
		l->note.kind = DP_KEY_DEPENDENT;
}

static __always_inline void lexer_take_key_byte(struct lexer *l, __u8 c)
{
	if (l->note.length >= LEXER_KEY_MOST) {
		l->traits |= LEXER_BAD;
		return;
	}
	l->note.key[l->note.length] = c;
	l->note.length++;
	l->hash = (l->hash ^ c) * 16777619u;
}

/* A character of a number. strtol(3), which the server calls, knows more forms than digits. */
static __always_inline bool lexer_takes_digit(struct lexer *l, __u8 c)
{
	if (c >= '0' && c <= '9')
		return true;
	l->traits |= c == '+' || c < ' ' ? LEXER_ODD : LEXER_BAD;
	return false;
}

static __always_inline void lexer_take_size(struct lexer *l, __u8 c)
{
	if (!lexer_takes_digit(l, c))
		return;
	if (l->note.size > LEXER_SIZE_MOST / 10)
		l->traits |= LEXER_ODD;
	else
		l->note.size = l->note.size * 10 + (c - '0');
}

#define LEXER_CAS_DIGITS 19u /* that always fit into 64 bits */

/* Of a cas: strtoull(3) takes a sign as well, and the server no number that is too large. */
static __always_inline void lexer_take_cas(struct lexer *l, __u8 c)
{
	if (c == '-' || l->at >= LEXER_CAS_DIGITS)
		l->traits |= LEXER_ODD;
	else
		lexer_takes_digit(l, c);
}

static __always_inline bool lexer_is_cas(const struct lexer *l)
{
	return l->word == LEXER_WORD('c', 'a', 's', 0, 0, 0, 0, 0);
}

static __always_inline bool lexer_in_key(const struct lexer *l)
{
	return l->token == l->key_token || ((l->traits & LEXER_MANY) && l->token > l->key_token);
}

static __always_inline void lexer_take_character(struct lexer *l, __u8 c)
{
	if (!l->token) {
		if (l->at < 8)
			l->word |= (__u64)c << (l->at * 8);
		else if (l->at == 9) /* "flush_all" is the longest word with a meaning */
			l->word = 0;
	} else if (lexer_in_key(l)) {
		if (!l->at) {
			l->note.length = 0;
			l->hash = 2166136261u;
			l->traits &= ~LEXER_BAD;
		}
		lexer_take_key_byte(l, c);
	} else if (l->size_token && l->token == l->size_token) {
		lexer_take_size(l, c);
	} else if (l->token < l->size_token) { /* flags, and a time, which may be negative */
		if (c != '-' || l->token != 3 || l->at)
			lexer_takes_digit(l, c);
	} else if ((l->traits & LEXER_META) && !l->at && l->token > l->size_token) {
		lexer_take_flag(l, c);
	} else if (l->size_token && l->token == l->size_token + 1 && lexer_is_cas(l)) {
		lexer_take_cas(l, c);
	}
	if (l->at < 255)
		l->at++;
}

static __always_inline void lexer_begin(struct lexer *l)
{
	l->word = 0;
	l->traits = 0;
	l->size_token = 0;
	l->key_token = 0;
	l->note.kind = DP_KEY_NONE;
	l->note.traits = 0;
	l->note.length = 0;
	l->note.size = 0;
}

/* Words of a meta command that any server takes: memcached has room for 24 (MAX_TOKENS). */
#define LEXER_META_WORDS 20u

/* Of a line that brings a value: the server refuses one with too few or too many. */
static __always_inline bool lexer_has_its_words(const struct lexer *l)
{
	__u32 least = l->size_token + 1;

	if (l->traits & LEXER_META)
		return l->token >= least;
	least += lexer_is_cas(l);
	return l->token >= least && l->token <= least + 1; /* noreply */
}

/* A line is over. */
static __always_inline enum lexer_found lexer_end_line(struct lexer *l)
{
	bool whole;

	if (l->note.size > LEXER_SIZE_MOST)
		l->traits |= LEXER_ODD;
	if (l->size_token && !lexer_has_its_words(l))
		l->traits |= LEXER_BAD;
	if (l->size_token && (l->traits & LEXER_META) && l->token > LEXER_META_WORDS)
		l->traits |= LEXER_ODD;
	whole = l->token > l->key_token && l->note.length && !(l->traits & LEXER_BAD);
	if (whole && l->size_token)
		l->skip = l->note.size + 2;
	l->token = 0;
	if ((l->traits & LEXER_ODD) && !(l->traits & LEXER_BAD))
		return LEXER_LOST;
	if (l->note.kind == DP_KEY_FLUSH)
		return LEXER_FLUSH;
	return whole && l->note.kind && !(l->traits & LEXER_MANY) ? LEXER_A_KEY : LEXER_NOTHING;
}

static __always_inline enum lexer_found lexer_line(struct lexer *l, __u8 c)
{
	enum lexer_found found = LEXER_NOTHING, end;

	if (l->returned && c != '\n') /* it is a character of a word */
		return LEXER_LOST;
	l->returned = c == '\r';
	if (c != ' ' && c != '\r' && c != '\n') {
		lexer_take_character(l, c);
		return LEXER_NOTHING;
	}
	if (l->at) {
		if (!l->token)
			lexer_take_word(l);
		else if ((l->traits & LEXER_MANY) && lexer_in_key(l) && l->note.kind &&
			 !(l->traits & LEXER_BAD))
			found = LEXER_A_KEY;
		l->at = 0;
		if (l->token < 255)
			l->token++;
	}
	if (c != '\n')
		return found;
	end = lexer_end_line(l);
	return found ?: end;
}

static __always_inline __u8 lexer_kind_of(__u8 opcode, bool compares)
{
	switch (opcode) {
	case 0x00: /* get, quietly, with the key */
	case 0x09:
	case 0x0c:
	case 0x0d:
		return DP_KEY_READ;
	case 0x01: /* set */
	case 0x11:
		return compares ? DP_KEY_DEPENDENT : DP_KEY_STORE;
	case 0x04: /* delete */
	case 0x14:
		return compares ? DP_KEY_DEPENDENT : DP_KEY_DELETE;
	case 0x02: /* add, replace */
	case 0x03:
	case 0x12:
	case 0x13:
	case 0x05: /* increment, decrement */
	case 0x06:
	case 0x15:
	case 0x16:
	case 0x0e: /* append, prepend */
	case 0x0f:
	case 0x19:
	case 0x1a:
	case 0x1c: /* touch, get and touch */
	case 0x1d:
	case 0x1e:
	case 0x23:
	case 0x24:
		return DP_KEY_DEPENDENT;
	case 0x08: /* flush */
	case 0x18:
		return DP_KEY_FLUSH;
	default:
		return DP_KEY_NONE;
	}
}

/* The header of a binary request is whole, in note.key. */
static __always_inline enum lexer_found lexer_end_header(struct lexer *l)
{
	const __u8 *h = l->note.key;
	__u32 key = h[2] << 8 | h[3], extras = h[4];
	__u32 body = (__u32)h[8] << 24 | h[9] << 16 | h[10] << 8 | h[11];
	bool compares = h[16] | h[17] | h[18] | h[19] | h[20] | h[21] | h[22] | h[23];

	l->mode = LEXER_LINE;
	l->at = 0;
	if (key > LEXER_KEY_MOST || body < key + extras || body > LEXER_SIZE_MOST)
		return LEXER_LOST;
	l->note.kind = lexer_kind_of(h[1], compares);
	l->note.length = 0;
	if (!key || l->note.kind == DP_KEY_FLUSH) {
		l->skip = body;
		return l->note.kind == DP_KEY_FLUSH ? LEXER_FLUSH : LEXER_NOTHING;
	}
	l->skip = extras;
	l->key_size = key;
	l->note.size = body - key - extras;
	l->hash = 2166136261u;
	l->mode = LEXER_KEY;
	return LEXER_NOTHING;
}

static __always_inline enum lexer_found lexer_header(struct lexer *l, __u8 c)
{
	if (l->at < LEXER_HEADER_SIZE) {
		l->note.key[l->at] = c;
		l->at++;
	}
	return l->at == LEXER_HEADER_SIZE ? lexer_end_header(l) : LEXER_NOTHING;
}

static __always_inline enum lexer_found lexer_key(struct lexer *l, __u8 c)
{
	lexer_take_key_byte(l, c);
	if (l->note.length < l->key_size)
		return LEXER_NOTHING;
	l->mode = LEXER_LINE;
	l->skip = l->note.size;
	return l->note.kind ? LEXER_A_KEY : LEXER_NOTHING;
}

/* The next byte, of which nothing is to be skipped. */
static __always_inline enum lexer_found lexer_byte(struct lexer *l, __u8 c)
{
	if (l->mode == LEXER_HEADER)
		return lexer_header(l, c);
	if (l->mode == LEXER_KEY)
		return lexer_key(l, c);
	if (!l->token && !l->at) {
		lexer_begin(l);
		if (!l->protocol)
			l->protocol = c == 0x80 ? LEXER_BINARY : LEXER_TEXT;
		if (l->protocol == LEXER_BINARY) {
			if (c != 0x80)
				return LEXER_LOST;
			l->mode = LEXER_HEADER;
			return lexer_header(l, c);
		}
	}
	return lexer_line(l, c);
}

#endif

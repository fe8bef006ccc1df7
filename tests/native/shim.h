/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Stands in for bcc and for the kernel's helpers, so that an ordinary compiler builds the headers of bpf/ unchanged:
 * every map is a struct of function pointers, which native.c fills in.
 */
#pragma once
#include <linux/bpf.h>
#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s64 s64;
typedef __s32 s32;

#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#define PIN_DIR "/native"
#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_htonl(x) __builtin_bswap32(x)
#define bpf_ntohl(x) __builtin_bswap32(x)

#define BPF_F_TABLE(type, key_t, leaf_t, name, max, flags)                                                         \
  static struct {                                                                                                  \
    leaf_t *(*lookup)(key_t *);                                                                                    \
    int (*update)(key_t *, leaf_t *);                                                                              \
    int (*delete)(key_t *);                                                                                        \
  } name __attribute__((unused))
#define BPF_ANNOTATE_KV_PAIR(name, key_t, leaf_t) struct name##_annotation

static inline u64 bpf_ktime_get_ns(void) {
  return 0;
}

static inline u32 bpf_get_prandom_u32(void) {
  return 0;
}

/* The packet that is looked at. */
static const u8 *packet_data;
static u32 packet_size;

static inline long bpf_skb_load_bytes(const void *skb, u32 offset, void *to, u32 size) {
  (void)skb;
  if ((u64)offset + size > packet_size)
    return -14; /* EFAULT, as the kernel's own */
  __builtin_memcpy(to, packet_data + offset, size);
  return 0;
}

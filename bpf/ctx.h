/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Reads addresses and ports out of the contexts; the only file that converts byte order. Addresses come out as 16 bytes
 * in network order, IPv4 as ::ffff:a.b.c.d, so that a dual-stack socket and an IPv4 socket give the same key. Ports come
 * out in host order: the kernel keeps local_port in host order and remote_port in network order in the upper half of a
 * 32-bit word (include/uapi/linux/bpf.h, struct bpf_sock_ops and sk_msg_md).
 */
#pragma once
#include "maps.h"

#define AF_INET 2
#define AF_INET6 10

/* Aligned, so that addresses can be compared and copied as words. */
#define ALIGNED __attribute__((aligned(8)))

struct tuple {
  u8 local[16];
  u8 remote[16];
  u16 local_port;
  u16 remote_port;
} ALIGNED;

static __always_inline void addr_v4(u8 *out, u32 be) {
  u32 *w = (u32 *)out;
  w[0] = 0;
  w[1] = 0;
  w[2] = bpf_htonl(0xffff);
  w[3] = be;
}

static __always_inline void addr_v6(u8 *out, u32 a, u32 b, u32 c, u32 d) {
  u32 *w = (u32 *)out;
  w[0] = a;
  w[1] = b;
  w[2] = c;
  w[3] = d;
}

static __always_inline int addr_equal(const u8 *a, const u8 *b) {
  const u64 *x = (const u64 *)a, *y = (const u64 *)b;
  return x[0] == y[0] && x[1] == y[1];
}

/* 127.0.0.0/8 or ::1 */
static __always_inline int addr_is_loopback(const u8 *a) {
  const u32 *w = (const u32 *)a;
  if (w[0] == 0 && w[1] == 0 && w[2] == bpf_htonl(0xffff))
    return a[12] == 127;
  return w[0] == 0 && w[1] == 0 && w[2] == 0 && w[3] == bpf_htonl(1);
}

static __always_inline int addr_is_any(const u8 *a) {
  const u32 *w = (const u32 *)a;
  return w[0] == 0 && w[1] == 0 && (w[2] == 0 || w[2] == bpf_htonl(0xffff)) && w[3] == 0;
}

/* The compiler must not fold the branches' loads into one through a moved context pointer, which the verifier refuses:
 * each load is tied to an asm statement that differs from all others. */
#define LOAD(ctx, field, index)                                                                                    \
  ({                                                                                                               \
    u32 v_ = (ctx)->field;                                                                                         \
    asm volatile("# " #field " " #index : "+r"(v_));                                                               \
    v_;                                                                                                            \
  })

#define READ_TUPLE(ctx, t)                                                                                         \
  do {                                                                                                             \
    if ((ctx)->family == AF_INET) {                                                                                \
      addr_v4((t)->local, LOAD(ctx, local_ip4, 4));                                                                \
      addr_v4((t)->remote, LOAD(ctx, remote_ip4, 4));                                                              \
    } else {                                                                                                       \
      addr_v6((t)->local, LOAD(ctx, local_ip6[0], 0), LOAD(ctx, local_ip6[1], 1), LOAD(ctx, local_ip6[2], 2),      \
              LOAD(ctx, local_ip6[3], 3));                                                                         \
      addr_v6((t)->remote, LOAD(ctx, remote_ip6[0], 0), LOAD(ctx, remote_ip6[1], 1), LOAD(ctx, remote_ip6[2], 2),  \
              LOAD(ctx, remote_ip6[3], 3));                                                                        \
    }                                                                                                              \
    (t)->local_port = (ctx)->local_port;                                                                           \
    (t)->remote_port = bpf_ntohl((ctx)->remote_port);                                                              \
  } while (0)

/* Fill the key that both ends share and return which side `local` is. Bytes are compared as big-endian numbers. */
static __always_inline int conn_side(struct conn_key *k, const u8 *local, const u8 *remote, u16 lport, u16 rport) {
  const u64 *l = (const u64 *)local, *r = (const u64 *)remote;
  u64 lh = __builtin_bswap64(l[0]), rh = __builtin_bswap64(r[0]), ll = __builtin_bswap64(l[1]), rl = __builtin_bswap64(r[1]);
  int side = lh != rh ? lh > rh : ll != rl ? ll > rl : lport > rport;
  if (side) {
    __builtin_memcpy(k->addr0, remote, 16);
    __builtin_memcpy(k->addr1, local, 16);
    k->port0 = rport;
    k->port1 = lport;
  } else {
    __builtin_memcpy(k->addr0, local, 16);
    __builtin_memcpy(k->addr1, remote, 16);
    k->port0 = lport;
    k->port1 = rport;
  }
  return side;
}

/* The end on that side. An index that is not constant is one the verifier may not follow, hence a branch. */
#define END_OF(conn, side) ((side) ? &(conn)->end[1] : &(conn)->end[0])

/* The side that called connect(). */
#define CONN_FLAGS_PROXY (CONN_FLAG_TO_PROXY | CONN_FLAG_FROM_PROXY)

static __always_inline int initiator(const struct conn *c) {
  return c->flags & CONN_FLAG_INITIATOR_1 ? 1 : 0;
}

/* Whether one end of a connection is a socket of the node proxy, which stands for the pod of that end. */
static __always_inline int is_proxys_end(const struct conn *c, int side) {
  return (c->flags & (side == initiator(c) ? CONN_FLAG_FROM_PROXY : CONN_FLAG_TO_PROXY)) != 0;
}

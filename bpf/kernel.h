/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Reads fields of kernel structs that no helper shows, at offsets that the loader took from this kernel's BTF (the OFF_
 * macros, loader/programs.py). A read of a stale address fails or gives stale bytes, so every use of another socket's
 * address first checks the socket's cookie.
 */
#pragma once
#include "ctx.h"

#ifdef DIRECT_LOADS
/* From 6.17 on a program may load from any kernel address it has named read-only memory, an instruction instead of a call
 * each time; an address that is none gives 0. C cannot write that call: the loader puts it where this number is called
 * (loader/loads.py). */
static u64 (*rdonly_cast)(u64 address, u32 type) = (void *)RDONLY_CAST_CALL;
#define PEEK(bits)                                                                                                 \
  static __always_inline u##bits peek##bits(u64 base, u32 off) {                                                  \
    u64 at = rdonly_cast(base + off, 0), v;                                                                        \
    asm volatile("%0 = *(u" #bits " *)(%1 + 0)" : "=r"(v) : "r"(at) : "memory");                                   \
    return v;                                                                                                      \
  }
#else
#define PEEK(bits)                                                                                                 \
  static __always_inline u##bits peek##bits(u64 base, u32 off) {                                                  \
    u##bits v = 0;                                                                                                 \
    bpf_probe_read_kernel(&v, sizeof(v), (void *)(base + off));                                                    \
    return v;                                                                                                      \
  }
#endif
PEEK(64)
PEEK(32)
PEEK(16)
PEEK(8)

/* The endpoint in whose network namespace the current task runs; 0: none. */
static __always_inline u32 current_endpoint(void) {
  u64 net = peek64(peek64(bpf_get_current_task(), OFF_TASK_NSPROXY), OFF_NSPROXY_NET);
  struct netns_key k = {.cookie = net ? peek64(net, OFF_NET_COOKIE) : 0};
  struct endpoint_ref *ref = k.cookie ? endpoint_netns.lookup(&k) : 0;
  return ref ? ref->id : 0;
}

/* Whether an end's socket is freed: what is read at its address is another's. */
static __always_inline int freed(const struct end *e) {
  return peek64(e->sock, OFF_SKC_COOKIE) != e->cookie;
}

/* The receive buffer that a socket on the short cut is given: what TCP's own tuning would give a fast reader. */
#define SHORT_CUT_RCVBUF (3 << 20)

/* What sockmap keeps for a socket; 0: it is in no sockhash. */
static __always_inline u64 psock_of(u64 sk) {
  return peek64(sk, OFF_SK_USER_DATA) & ~7ull; /* the low bits are flags (include/linux/skmsg.h) */
}

/* Whether this socket holds redirected bytes that its program has not read yet. */
static __always_inline int psock_has_data(u64 sk) {
  u64 psock = psock_of(sk);
  if (!psock)
    return 0;
  u64 head = psock + OFF_PSOCK_INGRESS;
  u64 first = peek64(head, 0);
  return first && first != head;
}

/* Whether a program has ended a connection of this socket, to use it for another (connect(2), AF_UNSPEC). A sender of the
 * first may be about to put bytes into its queue still: so it has the short cut once only. */
static __always_inline int was_disconnected(u64 sk) {
#ifdef OFF_SK_DISCONNECTS
  return peek32(sk, OFF_SK_DISCONNECTS) != 0;
#else
  return 0;
#endif
}

/* Changes whenever the socket's program reads some of its redirected bytes. */
static __always_inline u32 unread_sign(u64 sk) {
  u64 psock = psock_of(sk);
  if (!psock)
    return 0;
  u64 head = psock + OFF_PSOCK_INGRESS, first = peek64(head, 0);
  return first && first != head ? (u32)(first >> 6) * 0x9e3779b1u + peek32(first - OFF_MSG_LIST, OFF_MSG_SIZE) : 0;
}

/* Whether every byte that one end has sent over TCP so far has arrived at the other and has been read. Both sequence
 * numbers only move towards it: the one who sends is asked in its own send, or nothing hangs on what it sends next. */
static __always_inline int drained(u64 from, u64 to) {
  u32 received = peek32(to, OFF_TP_RCVNXT);
  return received == peek32(from, OFF_TP_WSEQ) && received == peek32(to, OFF_TP_COPIED);
}

#define WALK 24

/* Bytes in the psock's queue, by walking it; a queue longer than the walk counts as *more. */
static __always_inline u32 walked_bytes(u64 sk, u32 more) {
  u64 psock = psock_of(sk);
  u32 bytes = 0;
  if (!psock)
    return 0;
  u64 head = psock + OFF_PSOCK_INGRESS, at = peek64(head, 0);
#pragma clang loop unroll(disable)
  for (int i = 0; i < WALK; i++) {
    if (!at || at == head)
      return bytes;
    bytes += peek32(at - OFF_MSG_LIST, OFF_MSG_SIZE);
    at = peek64(at, 0);
  }
  return bytes + more;
}

/* Redirected bytes that wait, at least. */
static __always_inline u32 redirected_bytes(u64 sk) {
  return walked_bytes(sk, 0);
}

/* Bytes that wait in a socket whose TCP queue was just seen empty. From 6.14 on sk_rmem_alloc counts redirected bytes. Of
 * the kernels before, some count and some do not, so the psock's list is walked, too, and the larger figure is right on
 * each; a list longer than the walk counts as full. */
static __always_inline u32 queued_bytes(u64 sk) {
  u32 bytes = peek32(sk, OFF_SK_RMEM);
#ifdef PSOCK_NOT_IN_RMEM
  u32 walked = walked_bytes(sk, 0x3fffffff);
  if (walked > bytes)
    return walked;
#endif
  return bytes;
}

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * cgroup connect, sendmsg, recvmsg and getpeername: service address to backend, and the verdict before a packet exists,
 * so that a program learns of a denial at once (EPERM) and not by a time-out.
 */
#include "flow.h"
#include "kernel.h"

#define SK_ALLOW 1
#define SK_REFUSE 0

/* The endpoint whose program makes this call, by its network namespace: a source address can be chosen, this cannot. */
static __always_inline u32 caller(void *ctx) {
  struct netns_key k = {.cookie = bpf_get_netns_cookie(ctx)};
  struct endpoint_ref *ref = endpoint_netns.lookup(&k);
  return ref ? ref->id : 0;
}

/* Replace a service's address by that of one ready backend. Returns 0 if the service has none. */
static __always_inline int translate(u32 id, u8 *addr, u16 *port, u8 proto, u64 cookie) {
  struct service_key k ALIGNED = {};
  __builtin_memcpy(k.addr, addr, 16);
  k.port = *port;
  k.proto = proto;
  struct service *s = services.lookup(&k);
  if (!s)
    return 1;
  if (!s->backends) {
    count(METRIC_LB_NO_BACKEND, id);
    return 0;
  }
  struct backend_key bk = {.service = s->id, .index = s->next++ % s->backends};
  struct backend *b = backends.lookup(&bk);
  if (!b) {
    count(METRIC_LB_NO_BACKEND, id);
    return 0;
  }
  struct reverse_key rk ALIGNED = {};
  struct reverse_value rv ALIGNED = {};
  rk.cookie = cookie;
  rk.proto = proto;
  rk.port = b->port;
  __builtin_memcpy(rk.addr, b->addr, 16);
  __builtin_memcpy(rv.addr, addr, 16);
  rv.port = *port;
  reverse.update(&rk, &rv);
  __builtin_memcpy(addr, b->addr, 16);
  *port = b->port;
  count(METRIC_LB_TRANSLATED, id);
  return 1;
}

/* Whether a datagram to addr answers one that policy let in: from this address and port, by the conntrack of the packet
 * hooks. A socket that is bound to no address sends from the pod's first one. */
static __always_inline int answers(const struct endpoint *src, u32 id, const u8 *addr, u16 port, const u8 *own,
                                   u16 own_port) {
  struct ct_key k ALIGNED = {};
  const u32 *w = (const u32 *)addr;
  __builtin_memcpy(k.saddr, addr, 16);
  if (!addr_is_any(own))
    __builtin_memcpy(k.daddr, own, 16);
  else if (w[0] == 0 && w[1] == 0 && w[2] == bpf_htonl(0xffff))
    __builtin_memcpy(k.daddr, src->addr4, 16);
  else
    __builtin_memcpy(k.daddr, src->addr6, 16);
  k.endpoint = id;
  k.sport = port;
  k.dport = own_port;
  k.proto = IPPROTO_UDP;
  k.direction = DIRECTION_INGRESS;
  return ct.lookup(&k) != 0;
}

/* ping(8) finds its own address by connecting a UDP socket to this port and never sends a byte there. */
#define PING_PROBE_PORT 1025

static __always_inline int decide(void *ctx, u8 *addr, u16 *port, u8 proto, u8 hook, const u8 *own, u16 own_port) {
  if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
    return SK_ALLOW; /* the packet hook judges all other protocols */
  int probe = hook == HOOK_CONNECT && proto == IPPROTO_UDP && *port == PING_PROBE_PORT;
  u32 id = caller(ctx);
  if (!id || addr_is_loopback(addr) || addr_is_any(addr))
    return SK_ALLOW; /* not ours, or the pod's own loopback, which no policy covers */
  struct endpoint *src = endpoint_by_id(id);
  if (!src)
    return SK_REFUSE;
  u64 cookie = bpf_get_socket_cookie(ctx);
  struct identities from = identities_in(src, id);
  struct pair p = {.src_endpoint = id, .src_identity = current(from)};
  p.egress.verdict = VERDICT_ALLOW;
  p.ingress.verdict = VERDICT_ALLOW;
  if (!translate(id, addr, port, proto, cookie)) {
    p.egress.verdict = VERDICT_DENY;
    p.egress.reason = DROP_REASON_SERVICE_BACKEND_NOT_FOUND;
  } else {
    if (probe)
      return SK_ALLOW; /* a datagram would meet the packet hook */
    p.dst_endpoint = endpoint_id_by_addr(addr);
    if (p.dst_endpoint == id)
      return SK_ALLOW;
    struct endpoint *dst = p.dst_endpoint ? endpoint_by_id(p.dst_endpoint) : 0;
    struct identities to = dst ? identities_in(dst, p.dst_endpoint) : identities_at(addr);
    p.dst_identity = current(to);
    /* While two editions count, the older one answers here: the packet hooks ask both, and to do so twice is too much for
     * kernel 6.1. */
    ask(&p.egress, src, id, DIRECTION_EGRESS, to, proto, *port, 0);
    if (dst)
      ask(&p.ingress, dst, p.dst_endpoint, DIRECTION_INGRESS, from, proto, *port, 0);
  }
  if (pair_allowed(&p))
    return SK_ALLOW;
  if (proto == IPPROTO_UDP && own_port && answers(src, id, addr, *port, own, own_port))
    return SK_ALLOW; /* the packet hook has the last word; a server may connect() to who has called it */
  struct flow_event *e = event_new(EVENT_TYPE_DROP, hook);
  if (e) {
    event_pair(e, &p);
    event_denied(e, &p);
    e->cookie = cookie;
    e->proto = proto;
    e->dport = *port;
    __builtin_memcpy(e->daddr, addr, 16);
    events.ringbuf_submit(e, EVENT_QUIET);
  }
  count(METRIC_REFUSED_CALLS, id);
  return SK_REFUSE;
}

/* Whether a socket that calls has redirected bytes of a connection before, or a sender of that one is about to put some into
 * it: they would be the first that the next connection reads. One that its program has disconnected is out of the sockhash
 * (bpf/sockops.c), so that is over when that sender runs; whoever calls in the meantime, and only he, is refused. One whose
 * connection had come to its end by itself, by both sides' last words or a reset, is in it until it calls: what nobody read
 * of that connection can be read until then, and nobody holds its queue but the sockhash. */
static __always_inline int has_remains(struct bpf_sock_addr *ctx) {
  struct bpf_sock *sk = ctx->protocol == IPPROTO_TCP ? ctx->sk : 0;
  u64 tp = sk ? (u64)bpf_skc_to_tcp_sock(sk) : 0;
  u64 psock = tp && was_disconnected(tp) ? psock_of(tp) : 0;
  if (!psock)
    return 0;
  u64 maps = psock + OFF_PSOCK_LINK;
  return peek32(psock, OFF_PSOCK_REFS) > (peek64(maps, 0) != maps);
}

/* Where the socket sends from, as far as it has said: its port, and the address it is bound to or names in the call. */
static __always_inline u16 own4(struct bpf_sock_addr *ctx, u8 *own, int sends) {
  struct bpf_sock *sk = ctx->sk;
  addr_v4(own, sends ? ctx->msg_src_ip4 : sk ? sk->src_ip4 : 0);
  return sk ? sk->src_port : 0;
}

static __always_inline u16 own6(struct bpf_sock_addr *ctx, u8 *own, int sends) {
  struct bpf_sock *sk = ctx->sk;
  if (sends)
    addr_v6(own, ctx->msg_src_ip6[0], ctx->msg_src_ip6[1], ctx->msg_src_ip6[2], ctx->msg_src_ip6[3]);
  else if (sk)
    addr_v6(own, sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3]);
  else
    addr_v6(own, 0, 0, 0, 0);
  return sk ? sk->src_port : 0;
}

#define HOOK4(name, hook)                                                                                          \
  int name(struct bpf_sock_addr *ctx) {                                                                            \
    u8 addr[16] ALIGNED, own[16] ALIGNED;                                                                          \
    u16 port = bpf_ntohs(ctx->user_port), before = port;                                                           \
    if (hook == HOOK_CONNECT && has_remains(ctx))                                                                  \
      return SK_REFUSE;                                                                                            \
    addr_v4(addr, ctx->user_ip4);                                                                                  \
    u16 from = own4(ctx, own, hook == HOOK_SENDMSG);                                                               \
    int verdict = decide(ctx, addr, &port, ctx->protocol, hook, own, from);                                        \
    ctx->user_ip4 = *(u32 *)(addr + 12);                                                                           \
    if (port != before)                                                                                            \
      ctx->user_port = bpf_htons(port);                                                                            \
    return verdict;                                                                                                \
  }

/* An IPv6 socket may ask for ::ffff:a.b.c.d; the key is the same, and so is what is written back. */
#define HOOK6(name, hook)                                                                                          \
  int name(struct bpf_sock_addr *ctx) {                                                                            \
    u8 addr[16] ALIGNED, own[16] ALIGNED;                                                                          \
    u16 port = bpf_ntohs(ctx->user_port), before = port;                                                           \
    if (hook == HOOK_CONNECT && has_remains(ctx))                                                                  \
      return SK_REFUSE;                                                                                            \
    addr_v6(addr, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);                         \
    u16 from = own6(ctx, own, hook == HOOK_SENDMSG);                                                               \
    int verdict = decide(ctx, addr, &port, ctx->protocol, hook, own, from);                                        \
    ctx->user_ip6[0] = *(u32 *)addr;                                                                               \
    ctx->user_ip6[1] = *(u32 *)(addr + 4);                                                                         \
    ctx->user_ip6[2] = *(u32 *)(addr + 8);                                                                         \
    ctx->user_ip6[3] = *(u32 *)(addr + 12);                                                                        \
    if (port != before)                                                                                            \
      ctx->user_port = bpf_htons(port);                                                                            \
    return verdict;                                                                                                \
  }

HOOK4(connect4, HOOK_CONNECT)
HOOK4(sendmsg4, HOOK_SENDMSG)
HOOK6(connect6, HOOK_CONNECT)
HOOK6(sendmsg6, HOOK_SENDMSG)

/* Show the program the service address it asked for, not the backend it got. */
static __always_inline int restore(void *ctx, u8 *addr, u16 *port, u8 proto) {
  struct reverse_key k ALIGNED = {};
  k.cookie = bpf_get_socket_cookie(ctx);
  k.proto = proto;
  k.port = *port;
  __builtin_memcpy(k.addr, addr, 16);
  struct reverse_value *v = reverse.lookup(&k);
  if (!v)
    return 0;
  __builtin_memcpy(addr, v->addr, 16);
  *port = v->port;
  return 1;
}

#define RESTORE4(name)                                                                                             \
  int name(struct bpf_sock_addr *ctx) {                                                                            \
    u8 addr[16] ALIGNED;                                                                                           \
    u16 port = bpf_ntohs(ctx->user_port);                                                                          \
    addr_v4(addr, ctx->user_ip4);                                                                                  \
    if (restore(ctx, addr, &port, ctx->protocol)) {                                                                \
      ctx->user_ip4 = *(u32 *)(addr + 12);                                                                         \
      ctx->user_port = bpf_htons(port);                                                                            \
    }                                                                                                              \
    return SK_ALLOW;                                                                                               \
  }

#define RESTORE6(name)                                                                                             \
  int name(struct bpf_sock_addr *ctx) {                                                                            \
    u8 addr[16] ALIGNED;                                                                                           \
    u16 port = bpf_ntohs(ctx->user_port);                                                                          \
    addr_v6(addr, ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);                         \
    if (restore(ctx, addr, &port, ctx->protocol)) {                                                                \
      ctx->user_ip6[0] = *(u32 *)addr;                                                                             \
      ctx->user_ip6[1] = *(u32 *)(addr + 4);                                                                       \
      ctx->user_ip6[2] = *(u32 *)(addr + 8);                                                                       \
      ctx->user_ip6[3] = *(u32 *)(addr + 12);                                                                      \
      ctx->user_port = bpf_htons(port);                                                                            \
    }                                                                                                              \
    return SK_ALLOW;                                                                                               \
  }

RESTORE4(recvmsg4)
RESTORE4(getpeername4)
RESTORE6(recvmsg6)
RESTORE6(getpeername6)

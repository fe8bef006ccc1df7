/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Asks policy for a connection: identities from the ipcache, both ends' sets where both are ours.
 */
#pragma once
#include "ctx.h"

static __always_inline struct policy_value *policy_find(struct policy_key *k) {
  return policy.lookup(k);
}

#include "verdict.h"

/* The same number, but the verifier forgets what it knew of it: where it can tell a branch's outcome from that, it keeps
 * apart all ways that lead there and walks what follows once for each, so that kernel 6.1 came near to its limit of a
 * million instructions. `noise`: any number that the verifier does not know. */
static __always_inline u32 veiled(u32 value, u32 noise) {
  value ^= noise;
  asm volatile("" : "+r"(value)); /* or the compiler would see through it, too */
  return value ^ noise;
}

/* One of two numbers. The compiler would rather choose between two places to read from, which are two ways for the
 * verifier, whatever is read. */
static __always_inline u32 chosen(int first, u32 one, u32 other) {
  asm volatile("" : "+r"(one), "+r"(other));
  return first ? one : other;
}

/* Without a branch: `value`, or `other` where it is zero. */
static __always_inline u32 or_else(u32 value, u32 other) {
  return value | (other & -(u32)(((u64)value - 1) >> 63));
}

static __always_inline struct config *get_config(void) {
  u32 zero = 0;
  return config.lookup(&zero);
}

static __always_inline struct endpoint *endpoint_by_id(u32 id) {
  struct endpoint_key k = {.id = id};
  return endpoints.lookup(&k);
}

static __always_inline u32 endpoint_id_by_addr(const u8 *addr) {
  struct addr_key k;
  __builtin_memcpy(k.addr, addr, 16);
  struct endpoint_ref *ref = endpoint_ips.lookup(&k);
  return veiled(ref ? ref->id : 0, *(u32 *)(addr + 12));
}

/* Which edition of identities and sets counts: the agent writes the next one beside the one in force, and switches over by
 * this word alone (control/agent/plan.py). */
static __always_inline u32 edition_state(void) {
  u32 zero = 0;
  struct edition *e = edition.lookup(&zero);
  return veiled(e ? e->state : EDITION_STATE_NOW, bpf_get_prandom_u32());
}

/* Who somebody is, in the edition in force and in the one to come. */
struct identities {
  u32 now;
  u32 next;
  u32 flags; /* IpcacheFlag; none of an endpoint of this node */
};

static __always_inline u32 current(struct identities who) {
  return edition_state() == EDITION_STATE_NEXT ? who.next : who.now;
}

static __always_inline struct identities identities_at(const u8 *addr) {
  struct ipcache_key k;
  k.prefixlen = 128;
  __builtin_memcpy(k.addr, addr, 16);
  struct ipcache_value *v = ipcache.lookup(&k);
  struct identities out = {RESERVED_IDENTITY_WORLD, RESERVED_IDENTITY_WORLD, 0};
  if (v) {
    out.now = v->identity;
    out.next = or_else(v->next_identity, v->identity);
    out.flags = v->flags;
  }
  u32 noise = *(u32 *)(addr + 12);
  out.now = veiled(out.now, noise);
  out.next = veiled(out.next, noise);
  out.flags = veiled(out.flags, noise);
  return out;
}

static __always_inline u32 identity_of(const u8 *addr) {
  return current(identities_at(addr));
}

/* Whether what was read of an element is still what it was: the element may serve another pod meanwhile. */
static __always_inline int is_still_of(const struct endpoint *ep, u32 id) {
  asm volatile("" ::: "memory");
  return ep->id == id;
}

/* Zero, and so nobody, if the record is another pod's by now. */
static __always_inline struct identities identities_in(const struct endpoint *ep, u32 id) {
  struct identities out = {.now = ep->identity, .next = or_else(ep->next_identity, ep->identity)};
  u32 still = is_still_of(ep, id);
  out.now = veiled(out.now & -still, id);
  out.next = veiled(out.next & -still, id);
  return out;
}

static __always_inline u32 identity_in(const struct endpoint *ep, u32 id) {
  return current(identities_in(ep, id));
}

/* One end's answer, as one word of policy plus what the record needs. */
struct answer {
  u32 rule_id;
  u8 verdict;
  u8 reason;  /* DropReason when verdict is DENY */
  u8 audited; /* forwarded, but a policy in audit mode would have denied: see decision.audit */
  u8 pad;
};

/* The answer of one edition. */
static __always_inline void ask_edition(struct decision *d, struct answer *a, struct endpoint *ep, u32 id, int next,
                                        u8 direction, u32 peer, u8 proto, u16 port) {
  u32 next_set = ep->next_set_id, later = next && next_set;
  u32 set = veiled(chosen(later, next_set, ep->set_id), peer);
  u32 in = chosen(later, ep->next_ingress_plens, ep->ingress_plens);
  u32 out = chosen(later, ep->next_egress_plens, ep->egress_plens);
  u32 plens = veiled(chosen(direction == DIRECTION_INGRESS, in, out), peer);
  u32 has_audit = veiled(ep->flags & chosen(later, ENDPOINT_FLAG_NEXT_HAS_AUDIT, ENDPOINT_FLAG_HAS_AUDIT), peer);
  if (!(ep->flags & ENDPOINT_FLAG_ENROLLED) || !set || !peer || !is_still_of(ep, id)) {
    a->rule_id = 0;
    a->verdict = VERDICT_DENY;
    a->reason = DROP_REASON_DROP_EP_NOT_READY;
    a->audited = 0;
    return;
  }
  verdict_lookup(d, set, plens, direction, peer, proto, port);
  count(METRIC_POLICY_LOOKUPS, set);
  a->rule_id = DECISION_RULE(d->enforced);
  a->verdict = DECISION_VERDICT(d->enforced);
  a->reason = a->verdict == VERDICT_ALLOW                    ? DROP_REASON_NONE
              : a->verdict == VERDICT_PROXY                  ? DROP_REASON_PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL
              : DECISION_SCORE(d->enforced) == RANK_DENY + 1 ? DROP_REASON_POLICY_DENY
                                                             : DROP_REASON_POLICY_DENIED;
  /* What must be looked into passes nowhere without a proxy: as bits, for each branch doubles what kernel 6.1 has to look
   * through. DENY is 0, ALLOW 1, PROXY 2, and so is the flag shifted. */
  a->verdict &= VERDICT_ALLOW | (ep->flags & ENDPOINT_FLAG_PROXIED) >> 7;
  a->audited = 0;
  if (a->verdict != VERDICT_DENY && has_audit && DECISION_VERDICT(d->audit) == VERDICT_DENY)
    a->audited = 1;
}

/* `both`: where both editions count, both must allow; without, the older one answers: for who only wants to
 * tell, or where the other end asks both. */
static __always_inline void ask_of(struct decision *d, struct answer *a, struct endpoint *ep, u32 id, u8 direction,
                                   struct identities peer, u8 proto, u16 port, int both, int leads) {
  u32 state = edition_state();
  int next = state == EDITION_STATE_NEXT;
  ask_edition(d, a, ep, id, next, direction, next ? peer.next : peer.now, proto, port);
  if (both && state == EDITION_STATE_BOTH && a->verdict != VERDICT_DENY) {
    u8 first = a->verdict;
    ask_edition(d, a, ep, id, 1, direction, peer.next, proto, port);
    if (leads) /* of both the stricter: PROXY where one says so and the other one does not deny */
      a->verdict = ((a->verdict | a->verdict >> 1) & 1) << ((first | a->verdict) >> 1);
  }
}

static __always_inline void ask_with(struct decision *d, struct answer *a, struct endpoint *ep, u32 id, u8 direction,
                                     struct identities peer, u8 proto, u16 port) {
  ask_of(d, a, ep, id, direction, peer, proto, port, 1, 1);
}

static __always_inline void ask(struct answer *a, struct endpoint *ep, u32 id, u8 direction, struct identities peer,
                                u8 proto, u16 port, int both) {
  struct decision d;
  ask_of(&d, a, ep, id, direction, peer, proto, port, both, 0);
}

/* Both ends' answers to a connection from src to dst; an end that is not ours has no say. */
struct pair {
  u32 src_endpoint;
  u32 dst_endpoint;
  u32 src_identity;
  u32 dst_identity;
  u32 src_flags; /* EndpointFlag */
  u32 dst_flags;
  struct answer egress;
  struct answer ingress;
};

static __always_inline void ask_pair(struct pair *p, const u8 *src, const u8 *dst, u8 proto, u16 port, int both) {
  __builtin_memset(p, 0, sizeof(*p));
  p->egress.verdict = VERDICT_ALLOW;
  p->ingress.verdict = VERDICT_ALLOW;
  p->src_endpoint = endpoint_id_by_addr(src);
  p->dst_endpoint = endpoint_id_by_addr(dst);
  struct endpoint *s = p->src_endpoint ? endpoint_by_id(p->src_endpoint) : 0;
  struct endpoint *d = p->dst_endpoint ? endpoint_by_id(p->dst_endpoint) : 0;
  struct identities from = s ? identities_in(s, p->src_endpoint) : identities_at(src);
  struct identities to = d ? identities_in(d, p->dst_endpoint) : identities_at(dst);
  p->src_identity = current(from);
  p->dst_identity = current(to);
  if (s)
    p->src_flags = s->flags;
  if (d)
    p->dst_flags = d->flags;
  if (s && p->src_endpoint == p->dst_endpoint)
    return; /* a pod may always talk to itself */
  if (s)
    ask(&p->egress, s, p->src_endpoint, DIRECTION_EGRESS, to, proto, port, both);
  if (d)
    ask(&p->ingress, d, p->dst_endpoint, DIRECTION_INGRESS, from, proto, port, both);
}

static __always_inline int pair_allowed(const struct pair *p) {
  return p->egress.verdict != VERDICT_DENY && p->ingress.verdict != VERDICT_DENY;
}

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * What policy says: pure functions over one endpoint's policy set, with no context and no helper. The one thing they
 * need from outside is `policy_find(key)`: the kernel programs define it over the map (policy.h), the native tests over
 * a table, and control/evaluate.py is their twin in Python. The three are held to the same verdicts by the tests.
 */
#pragma once

struct decision {
  __u32 rule_id;
  __u32 audit_rule_id;
  __u8 verdict;
  __u8 rank;
  __u8 found;
  __u8 audit_verdict;
  __u8 audit_rank;
  __u8 audit_found;
};

static __always_inline __u16 verdict_mask(__u16 port, __u32 plen) {
  return plen >= 16 ? port : plen == 0 ? 0 : (__u16)(port & (0xffffu << (16 - plen)));
}

/* The first match of the highest rank decides, so callers offer the most specific entries first. */
static __always_inline void verdict_offer(struct decision *d, const struct policy_value *v) {
  if (v->present && (!d->found || v->rank > d->rank)) {
    d->found = 1;
    d->verdict = v->verdict;
    d->rank = v->rank;
    d->rule_id = v->rule_id;
  }
  if (v->audit_present && (!d->audit_found || v->audit_rank > d->audit_rank)) {
    d->audit_found = 1;
    d->audit_verdict = v->audit_verdict;
    d->audit_rank = v->audit_rank;
    d->audit_rule_id = v->audit_rule_id;
  }
}

static __always_inline void verdict_try(struct decision *d, struct policy_key *k, __u32 peer) {
  const struct policy_value *v;
  k->peer_id = peer;
  v = policy_find(k);
  if (v)
    verdict_offer(d, v);
  if (peer == 0)
    return;
  k->peer_id = 0;
  v = policy_find(k);
  if (v)
    verdict_offer(d, v);
}

/* Ask one policy set; nothing found leaves d at zero, which denies. `plens`: the port prefix lengths the set uses. */
static __always_inline void verdict_lookup(struct decision *d, __u32 set_id, __u32 plens, __u8 direction, __u32 peer,
                                           __u8 proto, __u16 port) {
  struct policy_key k = {};
  __builtin_memset(d, 0, sizeof(*d));
  k.set_id = set_id;
  k.direction = direction;
  k.proto = proto;
#pragma clang loop unroll(disable)
  for (int i = 0; i <= 16; i++) {
    __u32 plen = 16 - i;
    if (!(plens >> plen & 1))
      continue;
    k.plen = plen;
    k.port = verdict_mask(port, plen);
    verdict_try(d, &k, peer);
  }
  k.proto = 0;
  k.plen = 0;
  k.port = 0;
  verdict_try(d, &k, peer);
}

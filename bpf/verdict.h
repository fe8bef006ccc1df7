/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * What policy says: pure functions over one endpoint's policy set, with no context and no helper. The one thing they
 * need from outside is `policy_find(key)`: the kernel programs define it over the map (policy.h), the native tests over
 * a table, and control/evaluate.py is their twin in Python. The three are held to the same verdicts by the tests.
 */
#pragma once

/* What was chosen so far, as one word each for the enforced and the audit part: rank + 1 in the top byte, then how
 * specific the match was, the verdict, and the rule in the low half. The larger word wins, so choosing is one comparison,
 * which also keeps the verifier's work small. 0: nothing was found. */
struct decision {
  __u64 enforced;
  __u64 audit;
};

#define DECISION_SCORE(word) ((word) >> 56)
#define DECISION_VERDICT(word) ((__u8)((word) >> 32))
#define DECISION_RULE(word) ((__u32)(word))

static __always_inline __u64 verdict_word(__u8 present, __u8 rank, __u8 specific, __u8 verdict, __u32 rule) {
  return ((__u64)(rank + 1) << 56 | (__u64)specific << 48 | (__u64)verdict << 32 | rule) & -(__u64)(present & 1);
}

static __always_inline __u16 verdict_mask(__u16 port, __u32 plen) {
  return plen >= 16 ? port : plen == 0 ? 0 : (__u16)(port & (0xffffu << (16 - plen)));
}

static __always_inline void verdict_offer(struct decision *d, const struct policy_value *v, __u8 specific) {
  __u64 word = verdict_word(v->present, v->rank, specific, v->verdict, v->rule_id);
  __u64 audit = verdict_word(v->audit_present, v->audit_rank, specific, v->audit_verdict, v->audit_rule_id);
  if (word > d->enforced)
    d->enforced = word;
  if (audit > d->audit)
    d->audit = audit;
}

static __always_inline void verdict_try(struct decision *d, struct policy_key *k, __u32 peer, __u8 specific) {
  const struct policy_value *v;
  k->peer_id = peer;
  v = policy_find(k);
  if (v)
    verdict_offer(d, v, specific + 1);
  k->peer_id = 0;
  v = policy_find(k);
  if (v)
    verdict_offer(d, v, specific);
}

/* Ask one policy set; nothing found leaves d at zero, which denies. `plens`: the port prefix lengths the set uses. */
static __always_inline void verdict_lookup(struct decision *d, __u32 set_id, __u32 plens, __u8 direction, __u32 peer,
                                           __u8 proto, __u16 port) {
  struct policy_key k = {};
  d->enforced = 0;
  d->audit = 0;
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
    verdict_try(d, &k, peer, 2 * plen + 2);
  }
  k.proto = 0;
  k.plen = 0;
  k.port = 0;
  verdict_try(d, &k, peer, 0);
}

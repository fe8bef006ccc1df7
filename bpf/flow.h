/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Events to user space. A full ring buffer loses the event and counts it; nothing waits for the reader.
 */
#pragma once
#include "policy.h"

/* The agent looks every few milliseconds; it is woken early only when a quarter of the buffer is taken, so that a busy
 * node does not pay one wake-up per connection. */
#define WAKE_AT (MAX_EVENTS / 4)

static __always_inline u64 event_flags(void) {
  return events.ringbuf_query(0 /* BPF_RB_AVAIL_DATA */) > WAKE_AT ? 2 /* FORCE_WAKEUP */ : 1 /* NO_WAKEUP */;
}

static __always_inline struct flow_event *event_new(u8 type, u8 hook) {
  struct flow_event *e = events.ringbuf_reserve(sizeof(*e));
  if (!e) {
    count(METRIC_EVENTS_LOST);
    return 0;
  }
  __builtin_memset(e, 0, sizeof(*e));
  e->time = bpf_ktime_get_ns();
  e->type = type;
  e->hook = hook;
  return e;
}

static __always_inline void event_pair(struct flow_event *e, const struct pair *p) {
  e->src_identity = p->src_identity;
  e->dst_identity = p->dst_identity;
  e->src_endpoint = p->src_endpoint;
  e->dst_endpoint = p->dst_endpoint;
  e->egress_rule = p->egress.rule_id;
  e->ingress_rule = p->ingress.rule_id;
}

/* Fill in what a refusal or an audit by either end needs: egress is asked first, so it is named first. */
static __always_inline void event_denied(struct flow_event *e, const struct pair *p) {
  if (p->egress.verdict == VERDICT_DENY) {
    e->direction = DIRECTION_EGRESS;
    e->reason = p->egress.reason;
    e->ingress_rule = 0;
  } else {
    e->direction = DIRECTION_INGRESS;
    e->reason = p->ingress.reason;
  }
  e->verdict = VERDICT_DENY;
}

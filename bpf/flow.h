/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Events to user space. A full ring buffer loses the event and counts it; nothing waits for the reader.
 */
#pragma once
#include "policy.h"

/* The agent looks twenty times a second, and the buffer holds far more than comes in between: no wake-up is paid per
 * connection. An urgent event wakes it. */
#define EVENT_QUIET 1 /* BPF_RB_NO_WAKEUP */
#define EVENT_URGENT 2 /* BPF_RB_FORCE_WAKEUP */

static __always_inline struct flow_event *event_new(u8 type, u8 hook) {
  struct flow_event *e = events.ringbuf_reserve(sizeof(*e));
  if (!e) {
    count(METRIC_EVENTS_LOST, 0);
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

/* A connection's facts as one word, for a record. */
static __always_inline u32 conn_flags(const struct conn *c) {
  const struct end *a = &c->end[0], *b = &c->end[1];
  return c->flags | (a->enrolled ? CONN_FLAG_ENROLLED_0 : 0) | (b->enrolled ? CONN_FLAG_ENROLLED_1 : 0) |
         (a->closed ? CONN_FLAG_CLOSED_0 : 0) | (b->closed ? CONN_FLAG_CLOSED_1 : 0) |
         (a->redirect_msgs | b->redirect_msgs ? CONN_FLAG_USED : 0) | (c->denied ? CONN_FLAG_DENIED : 0) |
         (a->stuck | b->stuck ? CONN_FLAG_STUCK : 0);
}

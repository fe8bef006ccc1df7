"""Records of two editions, the one in force and the next: what the one is that counts. Pure.

How the two come to be, and are switched, is said in control/agent/plan.py.
"""

import dataclasses

from loader import abi
from loader.numbers import FIRST_ENDPOINT
from loader.record import Record

MAPS = ("endpoints", "ipcache")  # whose records have two editions
NO_SET = FIRST_ENDPOINT - 1  # a set that is never made, for who is closed in the next edition
AUDITS = abi.EndpointFlag.HAS_AUDIT | abi.EndpointFlag.NEXT_HAS_AUDIT


def settled(state: abi.EditionState, record: Record) -> Record:
    """Return a record in the one edition that a start goes on from: the old one, unless that is over.

    Who may speak for somebody else already is closed: that one's old policy was never meant for it.
    """
    is_over = state == abi.EditionState.NEXT
    match record:
        case abi.Endpoint():
            if not is_over:
                is_passing = state == abi.EditionState.BOTH and record.flags & abi.EndpointFlag.PASSING
                return _alone(dataclasses.replace(record, set_id=0) if is_passing else record)
            has_next = record.next_set_id != 0
            next_set = 0 if record.next_set_id == NO_SET else record.next_set_id
            audit = abi.EndpointFlag.NEXT_HAS_AUDIT if has_next else abi.EndpointFlag.HAS_AUDIT
            alone = _alone(record)
            return dataclasses.replace(
                alone,
                identity=record.next_identity or record.identity,
                set_id=next_set if has_next else record.set_id,
                ingress_plens=record.next_ingress_plens if has_next else record.ingress_plens,
                egress_plens=record.next_egress_plens if has_next else record.egress_plens,
                flags=alone.flags & ~AUDITS | (abi.EndpointFlag.HAS_AUDIT if record.flags & audit else 0),
            )
        case abi.IpcacheValue():
            return abi.IpcacheValue((is_over and record.next_identity) or record.identity, flags=record.flags)
    return record


def _alone(record: abi.Endpoint) -> abi.Endpoint:
    flags = record.flags & ~(abi.EndpointFlag.NEXT_HAS_AUDIT | abi.EndpointFlag.PASSING)
    return dataclasses.replace(
        record, flags=flags, next_identity=0, next_set_id=0, next_ingress_plens=0, next_egress_plens=0
    )

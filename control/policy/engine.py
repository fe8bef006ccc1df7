"""Who everybody is and which policies select whom, kept up to date one object at a time.

A pod that comes, goes or is relabelled is held against the selectors that ask for one of its labels; a policy that
changes, against the identities that it selects, or did. What a policy says of its peers is not touched by either:
resolved policies keep peers as they were written. The result is that of a full resolve of the same objects.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from control import identity, model
from control.policy import refer, resolve, selections

Labels = tuple[str, ...]
_Key = tuple[str, int]  # a section: its policy's key, and its place in it


class Engine:
    """Workloads, namespaces and policies, resolved. `number_of` gives each label set its number, always the same."""

    def __init__(self, number_of: Callable[[Labels], int], known: refer.Referents = refer.Referents()) -> None:  # noqa: B008 - frozen
        self._number_of, self._known = number_of, known
        self._namespaces: dict[str, model.Namespace] = {}
        self._in: dict[str, dict[str, model.Workload]] = {}  # by namespace, by name
        self._policies: dict[str, model.Policy] = {}
        self._labels: dict[str, Labels] = {}  # of each workload
        self._users = Counter[Labels]()
        self._numbers: dict[Labels, int] = {}
        self.selections = selections.Selections()
        self._asking: dict[model.Selector, list[_Key]] = {}  # a subject selector -> the sections that have it
        self._selecting: dict[int, set[_Key]] = {}
        self._resolved: dict[int, resolve.ResolvedPolicy] = {}
        self._shared: dict[tuple[_Key, ...], resolve.ResolvedPolicy] = {}
        self._sharing: dict[str, set[tuple[_Key, ...]]] = {}  # by policy: where it is in `_shared`

    # --- what changes ------------------------------------------------------------------------------------------------

    def put(self, obj: model.Workload | model.Namespace | model.Policy) -> None:
        """Take in an object, in place of one of its kind and name."""
        match obj:
            case model.Workload():
                self._in.setdefault(obj.namespace, {})[obj.name] = obj
                self._relabel(obj)
            case model.Namespace():
                self._namespaces[obj.name] = obj
                self._rename(obj.name)
            case model.Policy():
                if obj.key in self._policies:
                    self._withdraw(obj.key)
                self._apply(refer.policy_written_out(obj, self._known))

    def remove(self, obj: model.Workload | model.Namespace | model.Policy) -> None:
        """Forget an object."""
        match obj:
            case model.Workload():
                del self._in[obj.namespace][obj.name]
                self._release(self._labels.pop(str(obj)))
            case model.Namespace():
                del self._namespaces[obj.name]
                self._rename(obj.name)
            case model.Policy():
                self._withdraw(obj.key)

    def _rename(self, namespace: str) -> None:
        for workload in self._in.get(namespace, {}).values():
            self._relabel(workload)

    def _relabel(self, workload: model.Workload) -> None:
        labels = identity.labels_of(workload, self._namespaces)
        old = self._labels.get(str(workload))
        if old == labels:
            return
        self._labels[str(workload)] = labels
        self._users[labels] += 1
        if labels not in self._numbers:
            number = self._numbers[labels] = self._number_of(labels)
            meant = self.selections.add(number, labels)
            self._selecting[number] = {key for selector in meant for key in self._asking.get(selector, ())}
        if old is not None:
            self._release(old)

    def _release(self, labels: Labels) -> None:
        self._users[labels] -= 1
        if self._users[labels]:
            return
        del self._users[labels]
        number = self._numbers.pop(labels)
        self.selections.remove(number)
        del self._selecting[number]
        self._resolved.pop(number, None)

    def _apply(self, policy: model.Policy) -> None:
        self._policies[policy.key] = policy
        for key, section in _sections(policy):
            self._asking.setdefault(section.subject, []).append(key)
            for number in self.selections.select(section.subject):
                self._selecting[number].add(key)
                self._resolved.pop(number, None)

    def _withdraw(self, name: str) -> None:
        for key, section in _sections(self._policies.pop(name)):
            asking = self._asking[section.subject]
            asking.remove(key)
            for number in self.selections.select(section.subject):
                self._selecting[number].discard(key)
                self._resolved.pop(number, None)
            if not asking:
                del self._asking[section.subject]
                self.selections.forget(section.subject)
        for keys in self._sharing.pop(name, ()):
            self._shared.pop(keys, None)

    # --- what is asked -----------------------------------------------------------------------------------------------

    def number(self, workload: model.Workload) -> int:
        """Return the identity of a workload that was put."""
        return self._numbers[self._labels[str(workload)]]

    def select(self, selector: model.Selector) -> frozenset[int]:
        """Return the identities that a selector means."""
        return self.selections.select(selector)

    def policy(self, number: int) -> resolve.ResolvedPolicy:
        """Return the resolved policy of an identity; those that the same sections select share one object."""
        found = self._resolved.get(number)
        if found is None:
            keys = tuple(sorted(self._selecting[number], key=self._order))
            if keys not in self._shared:
                self._shared[keys] = resolve.together(
                    [(self._policies[name], self._policies[name].sections[index]) for name, index in keys]
                )
                for name, _ in keys:
                    self._sharing.setdefault(name, set()).add(keys)
            found = self._resolved[number] = self._shared[keys]
        return found

    def identities(self) -> Iterator[int]:
        """Yield every pod identity."""
        return iter(self._selecting)

    def _order(self, key: _Key) -> tuple[tuple[str, str, str], int]:
        return resolve.order(self._policies[key[0]]), key[1]


def _sections(policy: model.Policy) -> Iterator[tuple[_Key, model.Section]]:
    return (
        ((policy.key, index), section) for index, section in enumerate(policy.sections) if not section.of_nodes
    )  # fmt: skip

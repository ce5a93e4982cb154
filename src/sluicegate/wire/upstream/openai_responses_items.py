"""OpenAI Responses: which output item, and which of its texts, is an event about?

`output_index` names an item, else its id, else it is the item that was begun last: compatible servers leave out one or
the other, use one index for all items, or change the ids from event to event.
"""

from .openai_responses_events import WireEvent, WireItem


class Slot:
    """One output item. `keys` names its texts, in the order in which they began; `index` is its `output_index`."""

    __slots__ = ("announced", "cited", "done", "id", "index", "key", "keys", "latest", "type")

    def __init__(self, type_: str, key: str, index: int | None, item_id: str) -> None:
        self.type = type_
        self.key = key
        self.index = index
        self.id = item_id
        self.announced = False
        self.done = False
        self.keys: dict[tuple[str, int], str] = {}
        self.latest: dict[str, int] = {}
        self.cited: dict[str, int] = {}

    def text_key(self, family: str, index: int | None) -> str:
        """The key of entry `index` of the list `family`; None is the entry that was begun last."""
        name = family, self.latest.get(family, 0) if index is None else index
        key = self.keys.get(name)
        if key is None:
            key = self.keys[name] = f"{self.key}.{len(self.keys)}"
        return key

    def begin_text(self, family: str, index: int | None) -> str:
        """The key of an entry that begins; servers without indexes mean the next one."""
        if index is None:
            self.latest[family] = self.latest.get(family, -1) + 1
        return self.text_key(family, index)

    def text_keys(self, family: str, count: int) -> list[str]:
        """The keys of all `count` entries of the finished item, even if the stream counted them in another way."""
        known = [key for (of, _), key in sorted(self.keys.items()) if of == family]
        return known if len(known) == count else [self.text_key(family, index) for index in range(count)]


class Slots:
    """The items of one reply, in the order in which they began."""

    def __init__(self) -> None:
        self._all: list[Slot] = []
        self._by_index: dict[int, Slot] = {}
        self._by_id: dict[str, Slot] = {}
        self._by_key: dict[str, Slot] = {}
        self._current: Slot | None = None

    def find(self, index: int | None, item_id: str) -> Slot | None:
        """The item that has begun under this index or id, the current one if there is no index."""
        slot = self._by_id.get(item_id) if item_id else None
        if slot is not None and (index is None or slot.index is None or slot.index == index):
            return slot
        return self._current if index is None else self._by_index.get(index)

    def open(self, type_: str, index: int | None, item_id: str) -> Slot:
        """Begin an item."""
        key = item_id if index is None else str(index)
        if not key or key in self._by_key:
            key = f"{key}#{len(self._all)}"
        slot = self._current = self._by_key[key] = Slot(type_, key, index, item_id)
        self._all.append(slot)
        if index is not None:
            self._by_index[index] = slot
        if item_id:
            self._by_id[item_id] = slot
        return slot

    def of(self, event: WireEvent, type_: str) -> Slot:
        """The item that `event` is about, begun here if no event announced it."""
        slot = self.find(event.output_index, event.item_id)
        if slot is None or slot.type != type_:
            slot = self.open(type_, event.output_index, event.item_id)
        return slot

    def finish(self, slot: Slot) -> None:
        """Nothing more comes for `slot`, unless an event names it."""
        slot.done = True
        if self._current is slot:
            self._current = None

    def matches(self, items: list[WireItem]) -> list[Slot | None]:
        """The slot of each item of the terminal response: by id, by index, or else the next of its type that is left:
        ids may have changed, and an `output` has no gaps where indexes may have.
        """
        found = [self._match(position, item) for position, item in enumerate(items)]
        taken = {slot.key for slot in found if slot}
        left: dict[str, list[Slot]] = {}
        for slot in reversed(self._all):
            if slot.key not in taken:
                left.setdefault(slot.type, []).append(slot)
        for position, item in enumerate(items):
            if found[position] is None and (peers := left.get(item.type)):
                found[position] = peers.pop()
        return found

    def _match(self, position: int, item: WireItem) -> Slot | None:
        same = (self._by_id.get(item.id), self._by_index.get(position))
        return next((slot for slot in same if slot and slot.type == item.type), None)

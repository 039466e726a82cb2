"""All fault cases."""

from __future__ import annotations

from typing import Final

from tests.faults.case import Case
from tests.faults.cases_of_hosts import ANSWERS, BROKEN_OFF, CONNECTING, TIME
from tests.faults.cases_of_photos import ADDRESSES, CONTENT, PICTURES

SECTIONS: Final[dict[str, tuple[Case, ...]]] = {
    "Connecting": CONNECTING,
    "Time": TIME,
    "Broken answers": BROKEN_OFF,
    "Refusals": ANSWERS,
    "Addresses and redirects": ADDRESSES,
    "Content": CONTENT,
    "Pictures": PICTURES,
}
CASES: Final = tuple(case for cases in SECTIONS.values() for case in cases)

"""The tables of docs/alignment.md are those of the code."""

from __future__ import annotations

import re

from .pages import DOCS, ROOT

ISSUES = ROOT / "services" / "aligner" / "internal" / "align" / "issue.go"


def test_the_table_of_issue_codes_is_that_of_the_code() -> None:
    code = re.findall(r'^\tCode\w+\s+= "(\w+)"\s+// (.+)$', ISSUES.read_text(), re.MULTILINE)
    assert len(code) > 10
    page = re.findall(r"^\| `([A-Z_]+)` \| [a-z, ]+ \| (.+) \|$", (DOCS / "alignment.md").read_text(), re.MULTILINE)
    assert page == code

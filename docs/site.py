"""Completes the site that mdbook made: site.py FOLDER.

Links to files of the project that are not pages lead out of the site. These files are copied
into it, below files/. Then each link in it is followed, anchors included.
"""

import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent


class Links(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            if name == "id" and value:
                self.anchors.add(value)


def is_outside(link):
    return re.match(r"[a-z]+:|//|#", link) is not None


def bring_in(site, page):
    """Copies what a page links to outside the site, and changes the links."""

    def change(match):
        link = match.group(1)
        path, _, anchor = link.partition("#")
        if is_outside(link) or not path:
            return match.group(0)
        source = (ROOT / "docs" / page.parent.relative_to(site) / unquote(path)).resolve()
        if source.suffix == ".html" and source.with_suffix(".md").exists():
            source = source.with_suffix(".md")
        if source.is_relative_to(ROOT / "docs") or not (source.is_relative_to(ROOT) and source.is_file()):
            return match.group(0)
        target = site / "files" / source.relative_to(ROOT)
        if source.suffix in (".sh", ".md", ""):
            # A browser shows this as text, and does not save it.
            target = target.with_name(target.name + ".txt")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        up = "../" * len(page.parent.relative_to(site).parts)
        return f'href="{up}{target.relative_to(site)}"'

    text = page.read_text(encoding="utf-8")
    new = re.sub(r'href="([^"]*)"', change, text)
    if new != text:
        page.write_text(new, encoding="utf-8")


def main(site):
    for name in ("book.toml", "build.sh", "site.py", "site.css", "SUMMARY.md"):
        (site / name).unlink(missing_ok=True)
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        bring_in(site, page)
    read = {page: Links(page.read_text(encoding="utf-8")) for page in pages}
    wrong, followed = [], 0
    for page, of in read.items():
        # They are shown at any address, and inside other pages.
        if page.name in ("404.html", "toc.html", "print.html"):
            continue
        for link in of.links:
            path, _, anchor = link.partition("#")
            if is_outside(link) and not link.startswith("#"):
                continue
            followed += 1
            target = (page.parent / unquote(path)).resolve() if path else page
            if not target.exists():
                wrong.append(f"{page.relative_to(site)}: {link}: there is no such file")
            elif anchor and target in read and unquote(anchor) not in read[target].anchors:
                wrong.append(f"{page.relative_to(site)}: {link}: there is no such anchor")
    print("\n".join(wrong) or f"{site}: {len(pages)} pages, {followed} links lead somewhere")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))

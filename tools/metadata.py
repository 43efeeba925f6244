"""What a chapter's notebook file may hold: an allow list, so that no editor's notes end up in the book.

JupyterLab, VS Code, Colab, the classic Notebook, papermill and ExecuteTime each write their own metadata when a
notebook is opened, run and saved: folded cells, timestamps, cell ids, the kernel's version, sizes as 340 for 340.0.
`clean` drops all of it. What it can't undo is a result that differs: after a re-run, that is the cells that
measure time (tag nbval-ignore-output).
"""

import nbformat

METADATA = {
    "jupytext": {"formats": "ipynb,text//md:myst", "notebook_metadata_filter": "-jupytext.text_representation"},
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_KEYS = {"cell_type", "id", "metadata", "source"}
OUTPUT_KEYS = {
    "stream": {"output_type", "name", "text"},
    "display_data": {"output_type", "data", "metadata"},
    "execute_result": {"output_type", "data", "metadata", "execution_count"},
    "error": {"output_type", "ename", "evalue", "traceback"},
}
SHOWN = ("text/", "image/")  # the kinds of data that a chapter shows; editors add application/vnd...


def clean(notebook: nbformat.NotebookNode, number: int) -> nbformat.NotebookNode:
    """Keep what is ours, in place: the same notebook gives the same file whoever ran it, in which editor, and when.

    notebook: nbformat 4, any minor version. number: the chapter's, for the cells' ids. Returns the notebook.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells):
        _keep(cell, CELL_KEYS | ({"outputs", "execution_count"} if cell.cell_type == "code" else {"attachments"}))
        if not cell.get("attachments"):
            cell.pop("attachments", None)
        cell.id = f"c{number:02d}-{i:03d}"
        cell.source = cell.source.replace("\r\n", "\n").rstrip()
        cell.metadata = _cell_metadata(cell)
        if cell.cell_type == "code":
            cell.outputs = _outputs(cell.get("outputs", []))
            cell.setdefault("execution_count", None)
    _count_from_one([cell for cell in notebook.cells if cell.cell_type == "code"])
    return notebook


def _count_from_one(code: list[nbformat.NotebookNode]) -> None:
    """Cells that ran top to bottom, none in between, count from 1 as in a fresh kernel; others keep their counts."""
    counts = [cell.execution_count for cell in code]
    if code and counts[0] and counts == list(range(counts[0], counts[0] + len(code))):
        for i, cell in enumerate(code, start=1):
            cell.execution_count = i
    for cell in code:
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count


def _keep(node: nbformat.NotebookNode, allowed: set[str]) -> None:
    for key in node.keys() - allowed:
        del node[key]


def _cell_metadata(cell: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Name and tags. Whether the source is folded follows from the tags: readers fold and unfold as they go."""
    kept = {key: cell.metadata[key] for key in ("name", "tags") if cell.metadata.get(key)}
    if "hide-cell" in kept.get("tags", []):
        kept["jupyter"] = {"source_hidden": True}
    return nbformat.from_dict(dict(sorted(kept.items())))


def _outputs(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The outputs without their editors' additions; neighbouring pieces of one stream become one."""
    cleaned: list[nbformat.NotebookNode] = []
    for output in outputs:
        _keep(output, OUTPUT_KEYS[output.output_type])
        if "data" in output:
            output.data = nbformat.from_dict({k: _shown(k, v) for k, v in output.data.items() if k.startswith(SHOWN)})
            output.metadata = _sizes(output)
        last = cleaned[-1] if cleaned else {}
        if output.output_type == "stream" and last.get("output_type") == "stream" and last.name == output.name:
            last.text += output.text
        else:
            cleaned.append(output)
    return cleaned


def _shown(kind: str, data: str) -> str:
    """Images are base64: some editors break it into lines."""
    return data if kind.startswith("text/") or kind == "image/svg+xml" else "".join(data.split())


def _sizes(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Width and height of each image in whole pixels; nothing else."""
    sizes = {
        kind: {side: round(values[side]) for side in ("height", "width") if side in values}
        for kind, values in output.get("metadata", {}).items()
        if kind in output.data and isinstance(values, dict)
    }
    return nbformat.from_dict({kind: sides for kind, sides in sizes.items() if sides})

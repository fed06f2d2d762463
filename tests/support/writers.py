"""What processes that are spawned run: they import it from here, whatever pytest's own path is."""

from fever_extract._utils import files


def write_often(arguments):
    folder, number = arguments
    for _ in range(20):
        with files.replace_atomically(folder / "t") as temporary:
            temporary.write_text(f"{number}" * 1000)
    return True

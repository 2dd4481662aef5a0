"""The command line: `ilsvrc data|run|train|measure|show|new-chapter|doctor|scoreboard`."""

import os
import sys

import click

from ilsvrc import frameworks


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ilsvrc")
def cli():
    """The ImageNet Winners: data, runs and records of the course."""
    os.environ.pop("MPLBACKEND", None)  # nothing is drawn on a screen, and kernels bring their own
    frameworks.choose()


@cli.group("data", invoke_without_command=True)
@click.pass_context
def data_group(context):
    """Show which data sets are here, or fetch one."""
    if context.invoked_subcommand is None:
        from ilsvrc import data

        for row in data.status():
            images = f"{row['images']:,} images" if row["images"] else ""
            size = f"{row['bytes'] / 2**20:,.0f} MiB" if row["bytes"] else ""
            where = row["where"] or "not here"
            where = where if row["whole"] else f"{where} (not whole: unpack it again)"
            click.echo(f"{row['name']:<18} {images:>16} {size:>11}  {where}")


@data_group.command("fetch")
@click.argument("name")
def data_fetch(name):
    """Download a data set into the user's cache; a broken download goes on."""
    from ilsvrc import data

    click.echo(data.fetch(name))


@data_group.command("decode")
@click.argument("name", default="imagenette")
@click.option("--path", help="The data set's own folder; for NAME folder, your class folders.")
@click.option("--size", "sizes", type=int, multiple=True, help="Side in pixels; may be repeated.")
@click.option("--profile", help="All sides that the chapters' runs take: laptop or gpu.")
def data_decode(name, path, sizes, profile):
    """Decode a data set for all users of this machine, into ILSVRC_ARRAYS."""
    from ilsvrc import data

    if bool(sizes) == bool(profile):
        raise click.UsageError("Say --profile laptop (or gpu), or --size and a number of pixels.")
    if profile:
        from ilsvrc import queue

        sizes = queue.stored_sizes(profile)
        if not sizes:
            raise click.ClickException(
                f"At {profile} the chapters read no files here. Name the folder that holds "
                "Imagenette in ILSVRC_DATA, or fetch it: ilsvrc data fetch imagenette2-160"
            )
    for size in sizes:
        folder = data.share(name, size, path=path)
        held = sum(file.stat().st_size for file in folder.iterdir())
        click.echo(f"{folder}  {held / 2**20:,.0f} MiB")


def _parameters(pairs) -> dict:
    """Return `-p name value` pairs as a dict of Python values: numbers, true, false or text."""
    import ast

    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    words["none"] = None
    found = {}
    for name, text in pairs:
        try:
            found[name] = words[text.lower()] if text.lower() in words else ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found[name] = text
    return found


parameter = click.option(
    "-p", "--parameter", "parameters", nargs=2, multiple=True, metavar="NAME VALUE",
    help="Set a parameter, such as: -p epochs 3",
)  # fmt: skip
chosen_profile = click.option("--profile", help="smoke, laptop or gpu; default: what fits here.")


@cli.command()
@click.argument("chapter", required=False)
@click.option("--all", "everything", is_flag=True, help="The runs of all chapters.")
@chosen_profile
@parameter
@click.option("-o", "--output", type=click.Path(), help="Where to write the executed notebook.")
def run(chapter, everything, profile, parameters, output):
    """Execute a chapter's notebook and say where the result is.

    With --all, train the runs of all chapters instead, most telling first, without notebooks. At
    profile gpu their records are published in results/, at others kept in build/results/; OUTPUT
    is a folder into which they are also packed.
    """
    if bool(chapter) == everything or (everything and parameters):
        raise click.UsageError("Name a chapter (with -p, if you like), or say --all.")
    if everything:
        from ilsvrc import queue

        if queue.run_all(profile, output, click.echo):
            raise click.ClickException("Some runs failed. The same command tries them again.")
        return
    from ilsvrc import notebooks

    names = [name for name, _ in parameters] + (["profile"] if profile is not None else [])
    for name in names:
        if names.count(name) > 1:
            raise click.UsageError(f"{name} is given twice. Which is meant?")
    click.echo(notebooks.execute(chapter, profile, _parameters(parameters), output))


@cli.command()
@click.argument("chapter")
@click.argument("runs", nargs=-1)
@chosen_profile
@click.option("--epochs", type=int, help="Overrides the profile's epochs.")
@click.option("--size", type=int, help="Trains the paper's network on images of this side (px).")
@click.option("--seeds", type=int, help="Overrides the number of seeds.")
@click.option("--publish", is_flag=True, help="Write the records to results/.")
def train(chapter, runs, profile, epochs, size, seeds, publish):
    """Train a chapter's RUNS (all of them, if none is named) without its notebook."""
    from ilsvrc import Lab, paths, records

    lab = Lab(chapter, profile, epochs=epochs, size=size, seeds=seeds)
    if not lab.runs:
        raise click.UsageError(
            f"{chapter} trains nothing. `ilsvrc run {chapter}` executes its page."
        )
    for name in runs:
        lab.plan(name)  # a wrong name is refused before anything is trained
    for name in runs or lab.runs:
        record = records.read(lab.publish(name, paths.RESULTS)) if publish else lab.record(name)
        if publish:
            click.echo(f"{name}: {paths.record(chapter, name)}")
        top1 = record["top1"]
        click.echo(f"{name}: top-1 accuracy {top1['mean']:.1%} ({top1['seeds']} seeds)")


@cli.command()
@click.argument("chapter")
@click.argument("table")
def measure(chapter, table):
    """Measure a chapter's TABLE anew and write it to results/."""
    from ilsvrc import tables

    click.echo(tables.measure(chapter, table))


@cli.command("new-chapter")
@click.argument("year", type=int)
@click.argument("name")
def new_chapter(year, name):
    """Lay out a chapter that runs and passes the tests, to be rewritten piece by piece."""
    from ilsvrc import draft

    for file in draft.new_chapter(year, name):
        click.echo(file)


@cli.command()
@click.argument("chapter")
def show(chapter):
    """Print a chapter's network and its training in one piece, in colour on a terminal.

    These are the functions that take an `input_shape` (the builders), those that take `callbacks`
    (`fit` and its variants), and all that they use of the chapter, in its order. What the chapter
    measures and draws with is left out.
    """
    from ilsvrc import listing

    source = listing.listing(chapter)
    click.echo(listing.coloured(source) if sys.stdout.isatty() else source, nl=False)


@cli.command()
def scoreboard():
    """Show the published headline runs."""
    from ilsvrc import paths, records

    table = records.scoreboard(paths.RESULTS)
    click.echo(table.to_string(index=False) if len(table) else "No run is published yet.")


@cli.command()
def doctor():
    """Say what a run would use here, and what is wrong; a report to paste into an issue."""
    from ilsvrc import doctor

    lines, wrong = doctor.report()
    click.echo("The report of ilsvrc doctor; what stands above it is the framework's log.\n")
    for what, value in lines:
        click.echo(f"{what:<9} {value}")
    click.echo()
    for one in wrong or ["Nothing is wrong."]:
        click.echo(one)
    if wrong:
        sys.exit(1)


def main():
    """Run the command line; what a user can mend is said in one line, without a traceback."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):  # Click makes the former of the latter
        click.echo(
            "Stopped. The same command goes on: a training after its last finished epoch, "
            "a download where it broke off.",
            err=True,
        )
        sys.exit(130)
    except (ValueError, MemoryError, OSError, RuntimeError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)

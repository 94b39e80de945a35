"""What tests are varied over: settings choose, markers narrow, what is lacking deselects."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from linker.modes import LinkMode
from pytest_linkmode.config import Request, Settings
from pytest_linkmode.errors import UsageError
from pytest_linkmode.filesystems import FILESYSTEMS
from pytest_linkmode.layouts import LayoutSpec, parse
from pytest_linkmode.selection import (
    Choice,
    Selection,
    Want,
    choice_of,
    from_marks,
    make_selection,
    narrow,
    narrowing,
    wanted,
)
from tests.pytest_linkmode.places import ACROSS, DIRECTORIES, OTHER

Run = Callable[..., pytest.RunResult]

"""A request that every Linux machine can serve without mounting anything."""

AUTOMATIC = ("btrfs", "ext4", "tmpfs", "disk")


def selected(settings: Settings, missing: Mapping[str, str] | None = None) -> Selection:
    reasons = missing or {}
    return make_selection(
        settings,
        wanted(settings, FILESYSTEMS, AUTOMATIC),
        lambda name: reasons.get(name, ""),
        lambda spec: reasons.get(spec.source) or reasons.get(spec.target, ""),
    )


def names(choices: tuple[Choice, ...]) -> list[str]:
    return [choice.name for choice in choices]


def by_name(*fs: str) -> Settings:
    requests = tuple(Request(name.removesuffix("?"), name.endswith("?")) for name in fs)
    return Settings(fs=requests, auto=False, origins={"fs": "command line"})


def test_a_filesystem_is_itself_its_special_layouts_and_a_partner_both_ways() -> None:
    selection = selected(by_name("btrfs"))
    assert names(selection.layouts) == [
        "btrfs",
        "btrfs+bind",
        "btrfs+subvolume",
        "btrfs+nocow",
        "btrfs+nocow-source",
        "btrfs+overlay-upper",
        "btrfs+overlay-cross",
        "btrfs+symlinked",
        "btrfs+long-names",
        "btrfs:tmpfs",
        "tmpfs:btrfs",
    ]
    assert {"btrfs+snapshot", "btrfs+full"} <= set(names(selection.specials))
    assert names(selection.filesystems) == ["btrfs"]
    assert names(selection.modes) == ["clone", "hardlink", "symlink", "copy"]


def test_what_was_asked_for_by_name_is_required_and_its_partner_is_not() -> None:
    required = {choice.name: choice.required for choice in selected(by_name("btrfs")).layouts}
    assert required["btrfs"]
    assert required["btrfs+bind"]
    assert not required["btrfs:tmpfs"]
    assert not any(choice.required for choice in selected(by_name("btrfs?")).layouts)


def test_under_auto_what_is_missing_is_one_skipped_parameter() -> None:
    selection = selected(Settings(), {"btrfs": "no mkfs.btrfs"})
    skipped = [choice for choice in selection.layouts if choice.skip]
    assert [(choice.name, choice.skip) for choice in skipped] == [("btrfs", "no mkfs.btrfs")]
    assert names(selection.filesystems) == list(AUTOMATIC)


def test_a_missing_partner_skips_the_layouts_that_need_it() -> None:
    selection = selected(by_name("btrfs"), {"tmpfs": "no tmpfs"})
    assert {choice.name: choice.skip for choice in selection.layouts if choice.skip} == {
        "btrfs:tmpfs": "no tmpfs",
        "tmpfs:btrfs": "no tmpfs",
    }


def test_layouts_are_exactly_those_that_were_named() -> None:
    settings = Settings(
        layouts=("btrfs:tmpfs", "ext4+bind"), auto=False, origins={"layout": "command line"}
    )
    selection = selected(settings, {"ext4": "none"})
    assert names(selection.layouts) == ["btrfs:tmpfs", "ext4+bind"]
    assert names(selection.filesystems) == ["btrfs", "tmpfs", "ext4"]
    assert all(choice.required for choice in selection.layouts)


def test_pairs_are_ordered_and_of_what_was_selected() -> None:
    settings = Settings(fs=(Request("btrfs"), Request("ext4")), auto=False, layouts=("pairs",))
    assert sorted(names(selected(settings).layouts)) == [
        "btrfs",
        "btrfs:ext4",
        "ext4",
        "ext4:btrfs",
    ]


def test_all_is_every_filesystem_there_is() -> None:
    settings = Settings(every=True, auto=False)
    assert wanted(settings, FILESYSTEMS, ()) == dict.fromkeys(FILESYSTEMS, Want.REQUIRED)


def test_a_name_that_nobody_knows_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'btrfs'"):
        wanted(by_name("btrsf"), FILESYSTEMS, ())
    with pytest.raises(UsageError, match="btrsf"):
        wanted(Settings(layouts=("btrsf:tmpfs",), auto=False), FILESYSTEMS, ())
    with pytest.raises(UsageError, match="btrsf"):
        wanted(Settings(dirs={"btrsf": "/mnt"}), FILESYSTEMS, ())


def left(selection: Selection, **marker: object) -> list[str]:
    rule = narrowing(known=FILESYSTEMS, **marker)  # type: ignore[arg-type]
    return [choice.name for choice in narrow(selection.layouts, [rule]) if not choice.out]


def test_a_marker_leaves_what_its_filesystems_would_select() -> None:
    selection = selected(Settings())
    assert left(selection, fs="btrfs") == names(selected(by_name("btrfs")).layouts)


def test_a_marker_leaves_pairs_of_its_filesystems() -> None:
    settings = Settings(
        fs=(Request("btrfs"), Request("ext4"), Request("xfs")), auto=False, layouts=("pairs",)
    )
    assert sorted(left(selected(settings), fs=["btrfs", "ext4"])) == [
        "btrfs",
        "btrfs:ext4",
        "ext4",
        "ext4:btrfs",
    ]


def test_a_marker_adds_nothing_to_the_selection() -> None:
    assert left(selected(by_name("btrfs")), layout=["btrfs", "ext4"]) == ["btrfs"]


def test_a_surely_lacking_capability_deselects() -> None:
    selection = selected(by_name("btrfs", "ext4"))
    assert left(selection, needs={"reflink"}) == [
        *("btrfs", "btrfs+bind", "btrfs+subvolume"),
        *("btrfs+overlay-upper", "btrfs+symlinked", "btrfs+long-names"),
    ]
    assert left(selection, needs="hardlink", layout=["btrfs", "ext4", "ext4:tmpfs"]) == [
        "btrfs",
        "ext4",
    ]
    assert "btrfs:tmpfs" in left(selection, needs="cross-device")
    assert "btrfs" not in left(selection, needs="cross-device")


def test_what_only_probing_can_tell_stays() -> None:
    settings = Settings(layouts=("disk",), auto=False)
    assert left(selected(settings), needs={"reflink"}) == ["disk"]


def test_modes_are_words_or_values_and_reflink_is_clone() -> None:
    modes = selected(Settings()).modes
    rule = narrowing(known=FILESYSTEMS, modes=["reflink", LinkMode.COPY])
    assert names(narrow(modes, [rule])) == ["clone", "copy"]


def test_several_markers_narrow_together() -> None:
    marks = [
        pytest.mark.linkmode(fs=["btrfs", "ext4"]).mark,
        pytest.mark.linkmode(layout=["ext4", "tmpfs"]).mark,
    ]
    rules = from_marks(marks, FILESYSTEMS)
    assert names(narrow(selected(Settings()).layouts, rules)) == ["ext4"]


def test_filesystems_are_narrowed_by_names_and_by_layouts() -> None:
    filesystems = selected(Settings()).filesystems
    rules = [narrowing(known=FILESYSTEMS, fs=["btrfs", "ext4"])]
    assert names(narrow(filesystems, rules, lone=True)) == ["btrfs", "ext4"]
    rules.append(narrowing(known=FILESYSTEMS, layout="btrfs:tmpfs"))
    assert names(narrow(filesystems, rules, lone=True)) == ["btrfs"]


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        (pytest.mark.linkmode("btrfs"), "does not take 'btrfs'"),
        (pytest.mark.linkmode(filesystems=["btrfs"]), "does not take filesystems"),
        (pytest.mark.linkmode(fs=["btrsf"]), "did you mean 'btrfs'"),
        (pytest.mark.linkmode(layout="btrfs+bnid"), "bind"),
        (pytest.mark.linkmode(modes="link"), "unknown link mode"),
        (pytest.mark.linkmode(needs="reflinks"), "did you mean 'reflink'"),
        (pytest.mark.linkmode(needs=["reflink", 3]), "needs=.*neither a word nor several"),
        (pytest.mark.linkmode(modes=3), "modes=3: it is neither a word nor several"),
        (pytest.mark.linkmode(layout=[["btrfs"]]), "layout=.*neither a word"),
        (pytest.mark.linkmode(fs=True), "fs=True"),
    ],
)
def test_a_marker_that_makes_no_sense_says_why(marker: pytest.MarkDecorator, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_marks([marker.mark], FILESYSTEMS)


def test_a_choice_of_the_test_itself_is_required_where_the_run_requires_it() -> None:
    required = {"btrfs": Want.REQUIRED}
    assert choice_of("btrfs", required).required
    assert not choice_of("btrfs:tmpfs", required).required
    assert choice_of(parse("btrfs")).spec == LayoutSpec("btrfs", "btrfs")
    assert choice_of("reflink", mode=True).mode is LinkMode.CLONE


def test_ids_have_the_layout_first_and_then_the_mode(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", [7])
        def test_it(number, link_mode, linkmode_layout): ...

        def test_alone(linkmode_fs): ...
        """
    )
    result = inside(*DIRECTORIES, "--collect-only", "-q")
    assert [line for line in result.outlines if "::" in line] == [
        *(
            f"test_ids_have_the_layout_first_and_then_the_mode.py::test_it[{layout}-{mode}-7]"
            for layout in ("disk", ACROSS)
            for mode in ("clone", "hardlink", "symlink", "copy")
        ),
        "test_ids_have_the_layout_first_and_then_the_mode.py::test_alone[disk]",
        f"test_ids_have_the_layout_first_and_then_the_mode.py::test_alone[{OTHER}]",
    ]


def test_a_test_left_without_a_parameter_is_deselected_and_told_of(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.linkmode(fs=["btrfs"])
        def test_elsewhere(link_mode, linkmode_layout): ...

        @pytest.mark.linkmode(needs={"cross-device"})
        def test_across(linkmode_layout): ...

        def test_here(linkmode_layout): ...
        """
    )
    result = inside(*DIRECTORIES)
    result.assert_outcomes(passed=3, deselected=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "1 deselected: its marker leaves no layout of the selection",
            "1 deselected: not applicable: no cross-device there",
        ]
    )


def test_needs_that_only_probing_tells_skip_as_not_applicable(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.linkmode(layout="disk:shm", needs={"cross-device"})
        def test_across(linkmode_layout): ...

        @pytest.mark.linkmode(layout="disk", needs={"case-insensitive"})
        def test_folding(linkmode_layout): ...
        """.replace("shm", OTHER)
    )
    result = inside(*DIRECTORIES, "-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "passed    tests",
            f"{ACROSS}  1",
            "1 skipped on disk: *disk has no case-insensitive*",
            "SKIPPED * not applicable: disk has no case-insensitive: *",
        ]
    )


def test_a_wrong_marker_is_an_error_of_collection(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.linkmode(needs={"reflinks"})
        def test_it(linkmode_layout): ...
        """
    )
    result = inside(*DIRECTORIES)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_it: no capability is called 'reflinks'*"])


def test_a_test_may_say_itself_what_its_arguments_are(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("link_mode", ["a word of its own"])
        def test_direct(link_mode, linkmode_layout):
            assert link_mode == "a word of its own"

        @pytest.mark.parametrize(
            ("linkmode_layout", "link_mode"), [("disk", "copy")], indirect=True
        )
        def test_indirect(link_mode, linkmode_layout):
            assert (linkmode_layout.name, link_mode.value) == ("disk", "copy")
        """
    )
    result = inside(*DIRECTORIES)
    result.assert_outcomes(passed=3)


def test_a_hook_that_comes_first_may_say_what_the_arguments_are(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_generate_tests(metafunc):
            metafunc.parametrize("linkmode_layout", ["disk"], indirect=True)
        """
    )
    pytester.makepyfile("def test_it(linkmode_layout): assert linkmode_layout.name == 'disk'")
    inside(*DIRECTORIES).assert_outcomes(passed=1)


def test_a_fixture_that_overrides_ours_may_name_layouts(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(params=["disk"])
        def linkmode_layout(linkmode_layout, request):
            return linkmode_layout, request.param
        """
    )
    pytester.makepyfile(
        """
        def test_it(linkmode_layout):
            layout, named = linkmode_layout
            assert layout.name == named == "disk"
        """
    )
    inside(*DIRECTORIES).assert_outcomes(passed=1)


def test_a_fixture_that_overrides_ours_is_varied_as_ours_is(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def linkmode_layout(linkmode_layout):
            (linkmode_layout.source / "warm").touch()
            return linkmode_layout

        @pytest.fixture
        def link_mode():
            return "mine"
        """
    )
    pytester.makepyfile(
        """
        def test_it(linkmode_layout, link_mode):
            assert (linkmode_layout.source / "warm").exists()
            assert link_mode == "mine"
        """
    )
    inside(*DIRECTORIES).assert_outcomes(passed=2)


def test_factories_make_fixtures_of_a_projects_own(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        from pytest_linkmode import factories

        across = factories.layout(layout=["disk:shm"])
        sharing = factories.mode(modes=["hardlink", "symlink"])
        memory = factories.filesystem(fs="shm", name="memory_directory")
        """.replace("shm", OTHER)
    )
    pytester.makepyfile(
        """
        def test_it(sharing, across, memory_directory):
            assert sharing.sharing
            assert across.name == "disk:shm"
            assert memory_directory.name == "shm"
            assert memory_directory.path.is_dir()
        """.replace("shm", OTHER)
    )
    result = inside(*DIRECTORIES, "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"*::test_it[[]{ACROSS}-{OTHER}-hardlink[]] PASSED*"])


def test_a_project_adds_filesystems_of_its_own(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        from pytest_linkmode.filesystems import Kind

        def pytest_linkmode_filesystems():
            return [Kind("lustre", "a big one", ("directory",))]
        """
    )
    pytester.makepyfile(
        """
        def test_it(linkmode_fs):
            assert linkmode_fs.name == "lustre"
            (linkmode_fs.path / "file").touch()
        """
    )
    pytester.mkdir("mnt")
    flags = ("--linkmode-layout=lustre", "--linkmode-namespace=host")
    result = inside(*flags, "--linkmode-dir=lustre=mnt")
    result.assert_outcomes(passed=1)
    assert "lustre" not in FILESYSTEMS
    assert not list((pytester.path / "mnt").iterdir())
    assert inside("-p", "no:randomly", *flags).ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            '[Kind("lustre", "a big one", ("dirctory",))]',
            ["*'lustre'*'dirctory'*", "*'directory'?*"],
        ),
        ('["lustre"]', ["*returned [[]'lustre']: 'lustre' is no Kind", "*return a list*"]),
        ("3", ["*returned 3: 3 is no Kind", "*return a list*"]),
    ],
)
def test_rows_that_are_none_are_told(
    inside: Run, pytester: pytest.Pytester, answer: str, words: list[str]
) -> None:
    pytester.makeconftest(
        f"""
        from pytest_linkmode.filesystems import Kind

        def pytest_linkmode_filesystems():
            return {answer}
        """
    )
    pytester.makepyfile("def test_it(linkmode_fs): pass")
    result = inside(*DIRECTORIES, "--linkmode-fs=disk")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(words)


def test_words_of_the_ini_file_are_words(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml("[tool.pytest.ini_options]\nlinkmode_fs = [3]")
    pytester.makepyfile("def test_it(linkmode_fs): pass")
    result = inside(*DIRECTORIES)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*linkmode_fs in the ini file: 3 is no word"])


@pytest.mark.parametrize("flag", ["fresh", "special"])
def test_a_word_is_no_yes_and_no_no(inside: Run, pytester: pytest.Pytester, flag: str) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.linkmode({flag}="no")
        def test_it(linkmode_fs): pass
        """
    )
    result = inside(*DIRECTORIES)
    assert result.ret not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    assert f"{flag}='no': it is neither True nor False" in str(result.stdout) + str(result.stderr)

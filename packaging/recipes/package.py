"""Spack, from source: repos/builtin/packages/pytf/package.py."""

from datetime import date

from spack_repo.builtin.build_systems.cargo import CargoPackage

from spack.package import *


class Pytf(CargoPackage):
    """MPI-style task farmer: runs a list of commands on every node of a Slurm
    or PBS allocation."""

    homepage = "https://crates.io/crates/pytf"
    # On publication: the checksum that `spack checksum pytf` prints, as version(..., sha256=...).
    url = "https://crates.io/api/v1/crates/pytf/0.1.0/download"

    license("MIT OR Apache-2.0")

    version("0.1.0", extension="tar.gz")

    depends_on("rust@1.89:", type="build")
    depends_on("c", type="build")

    @property
    def build_args(self):
        return ["--locked"]

    @run_after("install")
    def install_man_pages_and_completions(self):
        cargo = which("cargo")
        pages = join_path(self.prefix.share.man.man1)
        cargo("run", "--locked", "--example", "man", "--", pages, date.today().isoformat())
        pytf = Executable(self.prefix.bin.pytf)
        for shell, folder, name in (
            ("bash", "bash-completion/completions", "pytf"),
            ("zsh", "zsh/site-functions", "_pytf"),
            ("fish", "fish/vendor_completions.d", "pytf.fish"),
        ):
            mkdirp(join_path(self.prefix.share, folder))
            with open(join_path(self.prefix.share, folder, name), "w") as script:
                script.write(pytf("completions", shell, output=str))

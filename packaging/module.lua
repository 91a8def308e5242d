-- Lmod: puts pytf on the path. The file's place in the tarball is its place in the installation.
help([[pytf runs a list of commands on every node of a Slurm or PBS allocation.
See pytf --help.]])
whatis("Name: pytf")
whatis("Description: an MPI-style task farmer")
local root = pathJoin(myFileName():match("(.*)/share/modulefiles/"))
prepend_path("PATH", pathJoin(root, "bin"))
prepend_path("MANPATH", pathJoin(root, "share/man"))

-- Lmod: puts pytf on the path. The file's place in the tarball is its place in the installation.
help([[pytf runs a list of commands on every node of a Slurm or PBS allocation.
See pytf --help.]])
local root, version = myFileName():match("^(.*)/share/modulefiles/pytf/([^/]+)%.lua$")
if not root then
    LmodError(myFileName(), "is not where the tarball of pytf has it, at share/modulefiles/pytf/VERSION.lua:",
        "leave it there, and use `module use .../share/modulefiles`")
end
whatis("Name: pytf")
whatis("Version: " .. version)
whatis("Description: an MPI-style task farmer")
prepend_path("PATH", pathJoin(root, "bin"))
-- man finds the pages by PATH. Where there is a MANPATH it looks at nothing else, and one of ours alone would hide the system's.
if (os.getenv("MANPATH") or "") ~= "" then
    prepend_path("MANPATH", pathJoin(root, "share/man"))
end
-- The completions of bash and fish. Unset, the variable stands for these two.
if mode() == "load" and (os.getenv("XDG_DATA_DIRS") or "") == "" then
    append_path("XDG_DATA_DIRS", "/usr/local/share:/usr/share")
end
append_path("XDG_DATA_DIRS", pathJoin(root, "share"))

import os, sys, tempfile
from pathlib import Path
import rig as r
home = Path(tempfile.mkdtemp(prefix="pytf-nfs-"))
home.chmod(0o755)
rig = r.Rig(sys.argv[1], home, 2)
print("up")
import code
exec(open(sys.argv[2]).read())

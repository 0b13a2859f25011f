"""``demo`` with another sidecar: its path is the first argument, the others are the command's own."""

import sys

from exporter.demo import supervisor
from exporter.demo.command import demo

supervisor.SIDECAR = (sys.executable, sys.argv[1])
supervisor.TELL_EVERY = 0.5
demo(sys.argv[2:])

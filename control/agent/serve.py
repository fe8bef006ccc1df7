"""Runs an agent with all that people and Prometheus talk to."""

import contextlib
import logging
import resource
import shutil
import signal
import time

from control.agent import admin, agent, metrics_http, options, status
from control.flow.summary import counted
from loader.errors import AttachFailed, StartEnded

LOG = logging.getLogger("sockmesh.agent")


def serve(opts: options.Options) -> None:
    """Run an agent with its admin socket and /metrics until SIGTERM or SIGINT; SIGHUP reads the directory again."""
    _take_all_files()
    node: agent.Agent | None = None
    is_ended = False

    def end(*_: object) -> None:
        nonlocal is_ended
        is_ended = True
        if node is not None:
            node.stop()

    # From the first moment: a start that is ended takes away what it made, as one that fails does.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.signal(signal.SIGHUP, lambda *_: None if node is None else node.request_reconcile())
    opts.check()
    if opts.metrics:
        metrics_http.parse(opts.metrics)
    try:
        node = agent.Agent(opts, lambda: is_ended)
    except StartEnded as ended:
        LOG.info("%s", ended)
        return
    except PermissionError:
        raise
    except OSError as error:
        LOG.debug("the agent cannot start", exc_info=True)
        copying = isinstance(error, shutil.Error) and error.args[0]  # a list: source, target and why of each file
        why = copying[0][-1] if copying else error.strerror
        raise AttachFailed(f"{error.filename or opts.run_dir}: {why}") from error
    fills = status.Fills()
    with contextlib.ExitStack() as stack:
        in_force = False
        stack.callback(lambda: _stopped(node) if in_force else node.abandon())  # last, when nobody asks any more
        handlers: dict[str, admin.Handler] = {
            "status": lambda _: status.status(node),
            "set": node.set_switch,
            "reconcile": lambda _: node.reconcile_now(),
        }
        # Both have their addresses before anything is put in force: an agent that does not start changes nothing.
        servers: list[admin.AdminServer | metrics_http.MetricsServer] = [
            admin.AdminServer(opts.socket, handlers, node.flows)
        ]
        stack.callback(servers[0].close)
        if opts.metrics:
            servers.append(
                metrics_http.MetricsServer(
                    opts.metrics,
                    lambda: status.snapshot(node, fills),
                    lambda: time.monotonic() - node.ledger.drained,
                )
            )
            stack.callback(servers[1].close)
        if is_ended:
            LOG.info("stopped before anything was put in force")
            return
        in_force = True
        node.start()
        for server in servers:
            server.start()
        LOG.info("node %s: %s under policy", node.node, counted(node.reconciler.under_policy, "workload"))
        node.run()


def _take_all_files() -> None:
    """Take as many open files as this process may have: followers of the flow log have one each, and the usual soft
    limit is for programs that use select(2), which nothing here does."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # more than the kernel gives anybody by now (fs.nr_open)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _stopped(node: agent.Agent) -> None:
    node.close()
    LOG.info("stopped; what is in force stays in force (`sockmesh uninstall --pins` takes it away)")

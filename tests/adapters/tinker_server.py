"""A stand-in for Tinker's service: the routes that a training client uses, over a model of one table.

The log-probability of a target token is read off a row of logits that the input token before it chooses. What goes over
the wire is what would: the package's own protocol buffers and JSON.
"""

from __future__ import annotations

import json
import math
import operator
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy
import torch
from tinker.proto import tinker_public_pb2 as wire
from torch import Tensor

VOCABULARY = 17


def tensor(message: Any) -> Tensor:
    dtype = numpy.int64 if message.dtype == wire.DTYPE_INT64 else numpy.float32
    return torch.from_numpy(numpy.frombuffer(message.dense, dtype).copy()).reshape(tuple(message.shape))


class Service:
    """One model, its accumulated gradient, and what was asked of it."""

    def __init__(self, runs_losses: bool = False):
        self.config = {
            "use_pyqwest_transport": False,
            "fwdbwd_max_chunk_len": 5,
            "custom_loss_server_side": runs_losses,
        }
        self.logits = torch.zeros(VOCABULARY, VOCABULARY, requires_grad=True)
        self.calls: list[tuple[str, bool]] = []
        self.fields: set[str] = set()
        self.sent: dict[int, list[Tensor]] = {}
        self.losses: dict[str, Any] = {}
        self.results: dict[str, Any] = {}
        self.lock = threading.Lock()

    @property
    def weights(self) -> list[Tensor]:
        """The weights of every datum, in the order of the requests and not of their arrival."""
        return [weights for _, each in sorted(self.sent.items()) for weights in each]

    def forget(self) -> None:
        """What was asked, and what was accumulated."""
        self.calls.clear()
        self.sent.clear()
        self.fields.clear()
        self.logits.grad = None

    def log_probs(self, datum: Any) -> Tensor:
        tokens = numpy.frombuffer(b"".join(chunk.encoded_text.tokens for chunk in datum.model_input), numpy.int32)
        target = tensor(datum.loss_fn_inputs["target_tokens"])
        rows = self.logits.float().log_softmax(-1)[torch.from_numpy(tokens.copy()).long()]
        return rows.gather(1, target[:, None])[:, 0]

    def forward_backward(self, body: bytes) -> Any:
        request = wire.ForwardBackwardRequest.FromString(body)
        self.calls.append((request.loss_fn, request.forward_only))
        output = wire.ForwardBackwardOutput(loss_fn_output_type="ArrayRecord")
        total: Any = 0.0
        every = []
        for datum in request.data:
            self.fields |= set(datum.loss_fn_inputs)
            log_probs = self.log_probs(datum)
            every.append(log_probs.detach().numpy())
            if request.loss_fn == "cross_entropy":
                weights = tensor(datum.loss_fn_inputs["weights"])
                total = total - (weights * log_probs).sum()
                if not request.forward_only:
                    self.sent.setdefault(request.seq_id, []).append(weights)
            else:
                loss = self.losses[request.loss_fn_config_v2["loss_id"].text]
                total = total + run(loss, log_probs, datum)
        if not request.forward_only:
            total.backward()
        record = output.loss_fn_outputs.add(num_datums=len(every))
        offsets = numpy.cumsum([0, *(x.nbytes for x in every)], dtype=numpy.int64)
        field = record.fields["logprobs"]
        field.data, field.offsets, field.dtype = (
            numpy.concatenate(every).tobytes(),
            offsets.tobytes(),
            wire.DTYPE_FLOAT32,
        )
        output.metrics["loss:sum"] = float(total.detach())
        return output

    def optim_step(self, body: bytes) -> dict[str, Any]:
        rate = json.loads(body)["adam_params"]["learning_rate"]
        with torch.no_grad():  # a plain step, with which a test can compare
            self.logits -= rate * self.logits.grad
        self.logits.grad = None
        return {"type": "optim_step"}

    def create_custom_loss(self, body: bytes) -> dict[str, Any]:
        request = json.loads(body)
        loss_id = f"loss-{len(self.losses)}"
        self.losses[loss_id] = request
        return {"type": "create_custom_loss", "loss_id": loss_id}

    def answer(self, route: str, body: bytes) -> dict[str, Any]:
        if route in ("forward_backward", "optim_step", "create_custom_loss", "create_model"):
            name = f"request-{len(self.results)}"
            make = getattr(self, route, lambda body: {"type": "create_model", "model_id": "session:train:0"})
            try:
                self.results[name] = make(body)
            except Exception as error:
                self.results[name] = {"error": f"{type(error).__name__}: {error}", "category": "user"}
            return {"request_id": name, "model_id": "session:train:0"}
        return {
            "client/config": self.config,
            "create_session": {"type": "create_session", "session_id": "session"},
            "get_info": {"type": "get_info", "model_data": {}, "model_id": "session:train:0"},
        }.get(route, {})


def run(request: dict[str, Any], log_probs: Tensor, datum: Any) -> Tensor:
    """A traced loss from its description alone: each node names a function of torch or a method of a tensor."""

    def decoded(x: Any) -> Any:
        if isinstance(x, list):
            return [decoded(y) for y in x]
        if not isinstance(x, dict):
            return x
        ((kind, value),) = x.items()
        if kind == "ref":
            return values[value]
        if kind in ("tuple", "slice"):
            return {"tuple": tuple, "slice": lambda y: slice(*y)}[kind](decoded(value))
        if kind == "dict":
            return {key: decoded(y) for key, y in value.items()}
        return {"float": float, "dtype": lambda y: getattr(torch, y), "device": torch.device}[kind](value)

    values: dict[str, Any] = {}
    inputs = {key: tensor(x) for key, x in datum.loss_fn_inputs.items()} | {"logprobs": log_probs}
    for node in request["graph"]["nodes"]:
        args, kwargs = decoded(node.get("args", [])), decoded({"dict": node.get("kwargs", {})})
        if node["op"] == "placeholder":
            values[node["name"]] = inputs[node["target"]]
        elif node["op"] == "call_method":
            values[node["name"]] = getattr(args[0], node["target"])(*args[1:], **kwargs)
        elif node["op"] == "call_function":
            library, *path = node["target"].split(".")
            function: Any = {"torch": torch, "math": math, "operator": operator, "getattr": getattr}[library]
            for name in path:
                function = getattr(function, name)
            values[node["name"]] = function(*args, **kwargs)
        else:
            return args[0][0]
    raise AssertionError("a graph without an output")


@contextmanager
def serve(service: Service) -> Iterator[str]:
    """The address, on the loopback interface, at which the service answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            route = self.path.removeprefix("/api/v1/")
            with service.lock:
                if route == "retrieve_future":
                    found = service.results[json.loads(body)["request_id"]]
                else:
                    found = service.answer(route, body)
            binary = isinstance(found, wire.ForwardBackwardOutput)
            sent = found.SerializeToString() if binary else json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf" if binary else "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

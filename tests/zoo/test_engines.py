"""Every engine goes through one tester: against the plain loop in float64, and against itself in other company."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.populations import architecture, image_data, model_rows
from zoo.engines import torch_engine
from zoo.engines.choice import choose, refusal
from zoo.engines.engine import MOMENTUM, Population, Protocol, initial_population, schedule_table
from zoo.engines.loop_engine import LoopEngine
from zoo.engines.make import engine_class
from zoo.engines.philox import batch_order
from zoo.engines.torch_engine import EVALUATED_VALUES, EVALUATION_BATCH
from zoo.images.config import AugmentConfig
from zoo.networks.architecture import Architecture
from zoo.networks.initialization import initial_module
from zoo.networks.layers import ACTIVATIONS


def run(engine, population: Population, epochs: int, first_epoch: int = 1) -> list:
    """Train; after each epoch: (running scores, validation scores, population)."""
    engine.load(population)
    history = []
    for epoch in range(first_epoch, first_epoch + epochs):
        engine.start_epoch(epoch)
        middle = engine.steps_per_epoch // 2
        engine.train(0, middle)
        engine.train(middle, engine.steps_per_epoch)
        history.append((engine.finish_epoch(), engine.evaluate(engine.data.val), engine.population()))
    engine.close()
    return history


def pick(population: Population, rows) -> Population:
    return Population(*(getattr(population, field)[rows] for field in population.__dataclass_fields__))


def assert_same_models(history, others, rows, exact: bool) -> None:
    """`others` holds the models `rows` of `history`."""
    for (running, val, population), (running2, val2, population2) in zip(history, others):
        for a, b in ((running.loss, running2.loss), (val.loss, val2.loss), (population.weights, population2.weights)):
            if exact:
                np.testing.assert_array_equal(a[rows], b)
            else:
                np.testing.assert_allclose(a[rows], b, rtol=2e-3, atol=2e-4)
        if exact:
            np.testing.assert_array_equal(val.class_accuracy[rows], val2.class_accuracy)


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a.astype(np.float64) - b, axis=1)


def way(population: Population, start: Population) -> np.ndarray:
    return distance(population.weights, start.weights)


def norm(population: Population) -> np.ndarray:
    return np.linalg.norm(population.first_moment, axis=1)


class OwnDropout(torch.nn.Sequential):
    """A user's module with a dropout that is no factor of the zoo."""

    def __init__(self, image, classes, p):
        super().__init__(torch.nn.Flatten(), torch.nn.Dropout(p), torch.nn.Linear(16, classes))


class EngineTester:
    """What holds for every engine. Subclasses name the engine."""

    name: str
    device = "cpu"

    def make(self, arch, rows, data, protocol, threads=2):
        return engine_class(self.name)(arch, rows, data, protocol, self.device, threads)

    @pytest.mark.parametrize("arch_name", ["cnn_s", "cnn_m"])
    @pytest.mark.parametrize("optimizer", ["adam", "sgd"])
    @pytest.mark.parametrize("activation", list(ACTIVATIONS))
    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    def test_equals_the_loop_every_epoch(self, arch_name, optimizer, activation, dropout):
        arch = architecture(arch_name)
        data = image_data(arch.image)
        rows = model_rows(
            init=["kaiming_uniform", "kaiming_normal"], activation=[activation], optimizer=[optimizer],
            lr=[1e-3, 3e-3], weight_decay=[0.0, 1e-2], dropout=[dropout],
        )  # fmt: skip
        protocol = Protocol(10, 2, "constant")
        start = initial_population(arch, rows)
        ours = run(self.make(arch, rows, data, protocol), start, 2)
        judge = run(LoopEngine(arch, rows, data, protocol, dtype=torch.float64), start, 2)
        for (running, val, population), (running64, val64, population64) in zip(ours, judge):
            np.testing.assert_allclose(running.loss, running64.loss, rtol=1e-3)
            np.testing.assert_allclose(val.loss, val64.loss, rtol=1e-3)
            # Relative to the way gone. Rounding may tip a max-pool, a kink or Adam's division of next to nothing by
            # next to nothing in some model; a mistake shows in all of them.
            drift = distance(population.weights, population64.weights) / way(population64, start)
            assert np.median(drift) < 1e-3
            assert drift.max() < 5e-2
            drift = distance(population.first_moment, population64.first_moment) / norm(population64)
            assert np.median(drift) < 1e-3
            np.testing.assert_array_equal(population.step, population64.step)
        assert (way(ours[-1][2], start) > 1e-2).all(), "nothing was learnt: the test compares nothing"

    @pytest.mark.parametrize("arch_name", ["cnn_s", "cnn_m"])
    @pytest.mark.parametrize(("train", "batch_size"), [(57, 10), (31, 10), (5, 10), (5, 1)])  # last batches: 7, 1, 5, 1
    def test_a_model_does_not_depend_on_its_neighbours(self, arch_name, train, batch_size):
        arch = architecture(arch_name)
        data = image_data(arch.image, train=train)
        rows = model_rows(
            activation=["tanh", "gelu"], optimizer=["adam", "sgd"], dropout=[0.0, 0.5], lr=[1e-3, 1e-2, 3e-2]
        )
        protocol = Protocol(batch_size, 2, "constant")
        start = initial_population(arch, rows)
        company = run(self.make(arch, rows, data, protocol), start, 2)
        order = np.random.RandomState(0).permutation(len(rows))
        shuffled = run(self.make(arch, rows.iloc[order], data, protocol, threads=1), pick(start, order), 2)
        assert_same_models(company, shuffled, order, exact=True)
        for few in ([0], [5, 17, 2]):
            alone = run(self.make(arch, rows.iloc[few], data, protocol), pick(start, few), 2)
            assert_same_models(company, alone, few, exact=True)

    def test_a_resumed_model_is_the_same(self):
        arch, data = architecture("cnn_s"), image_data()
        rows = model_rows(optimizer=["adam", "sgd"], dropout=[0.0, 0.3], weight_decay=[0.0, 1e-3])
        protocol = Protocol(10, 4, "constant")
        start = initial_population(arch, rows)
        through = run(self.make(arch, rows, data, protocol), start, 4)
        resumed = run(self.make(arch, rows, data, protocol), through[1][2], 2, first_epoch=3)
        assert_same_models(through[2:], resumed, slice(None), exact=True)

    def test_a_diverged_neighbour_harms_nobody(self):
        arch, data = architecture("cnn_s"), image_data()
        rows = model_rows(activation=["relu"], optimizer=["sgd", "adam"], lr=[1e-2, 1e20, 1e-3, 1e19])
        protocol = Protocol(10, 2, "constant")
        start = initial_population(arch, rows)
        healthy = [0, 2, 4, 6]
        alone = [run(self.make(arch, rows.iloc[[i]], data, protocol), pick(start, [i]), 2) for i in healthy]
        for threads in (1, 2):  # with one thread, a healthy model works in the memory that a diverged one has left
            together = run(self.make(arch, rows, data, protocol, threads=threads), start, 2)
            assert not np.isfinite(together[-1][2].weights[1]).all()
            for i, history in zip(healthy, alone):
                assert np.isfinite(history[-1][2].weights).all()
                assert_same_models(together, history, [i], exact=True)

    def test_scores_are_those_of_a_plain_evaluation(self):
        arch, data = architecture("cnn_s"), image_data(test=77)
        rows = model_rows(activation=["tanh", "relu"])
        engine = self.make(arch, rows, data, Protocol(10, 1, "constant"))
        engine.load(initial_population(arch, rows))
        ours, outputs = engine.evaluate(data.test), engine.outputs(data.test).cpu()
        assert outputs.shape == (len(rows), 77, 10)
        for i, row in enumerate(rows.itertuples()):
            module = initial_module(arch, row.seed, row.init, row.activation, row.dropout).eval()
            with torch.no_grad():
                logits = module(data.normalise(data.test.pixels))
            np.testing.assert_allclose(outputs[i], logits, rtol=1e-4, atol=1e-5)
            right = logits.argmax(1) == data.test.labels
            assert ours.loss[i] == pytest.approx(F.cross_entropy(logits, data.test.labels).item(), rel=1e-5)
            assert ours.accuracy[i] == right.double().mean().item()
            for c in range(10):
                assert ours.class_accuracy[i, c] == right[data.test.labels == c].double().mean().item()
        engine.close()

    def test_a_model_of_unknown_optimizer_is_evaluated(self):
        """Imported models may not tell theirs; it does not matter for what they do."""
        arch, data = architecture("cnn_s"), image_data(train=20)
        rows = model_rows(activation=["tanh", "relu"])
        start = initial_population(arch, rows)
        outputs = []
        for known in (rows, rows.assign(optimizer=["adam", None])):
            engine = self.make(arch, known, data, Protocol(10, 1, "constant"))
            engine.load(start)
            outputs.append(engine.outputs(data.val).cpu().numpy())
            np.testing.assert_array_equal(engine.population().weights, start.weights)
            engine.close()
        np.testing.assert_array_equal(*outputs)

    def test_no_validation_images_give_nan(self):
        arch, data = architecture("cnn_s"), image_data(val=0)
        rows = model_rows()
        engine = self.make(arch, rows, data, Protocol(10, 1, "constant"))
        engine.load(initial_population(arch, rows))
        assert np.isnan(engine.evaluate(data.val).accuracy).all()
        engine.close()


class TestLoop(EngineTester):
    name = "loop"

    def test_is_plain_pytorch(self):
        """Against a training loop without any of our engine code, Adam and SGD; only the batch order is ours."""
        arch, data = architecture("cnn_s"), image_data()
        for optimizer in ("adam", "sgd"):
            rows = model_rows(optimizer=[optimizer], weight_decay=[1e-2])
            ours = run(self.make(arch, rows, data, Protocol(10, 2, "constant")), initial_population(arch, rows), 2)
            module = initial_module(arch, 1, "kaiming_uniform", "tanh", 0.0)
            torch.set_num_threads(1)  # as the engine: the order of sums depends on it
            plain = (
                torch.optim.Adam(module.parameters(), lr=1e-3, weight_decay=1e-2)
                if optimizer == "adam"
                else torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-2)
            )
            for epoch in (1, 2):
                losses = 0.0
                for chosen in batch_order(torch.tensor([1]), epoch, len(data.train))[0].split(10):
                    plain.zero_grad()
                    loss = F.cross_entropy(module(data.normalise(data.train.pixels[chosen])), data.train.labels[chosen])
                    loss.backward()
                    plain.step()
                    losses += loss.item() * len(chosen)
                running, _, population = ours[epoch - 1]
                np.testing.assert_array_equal(population.weights[0], arch.weights(module).numpy())
                assert running.loss[0] == pytest.approx(losses / len(data.train))

    def test_a_modules_own_dropout_is_kept(self):
        data = image_data((1, 4, 4), classes=5)
        weights = []
        for dropout in (0.0, 0.9):
            arch = Architecture(
                "own", (1, 4, 4), 5, module="tests.zoo.test_engines.OwnDropout", module_args={"p": dropout}
            )
            rows = model_rows(activation=["relu"])
            weights.append(
                run(self.make(arch, rows, data, Protocol(10, 1, "constant")), initial_population(arch, rows), 1)
            )
        assert not np.array_equal(weights[0][0][2].weights, weights[1][0][2].weights)

    def test_trains_a_resnet_with_augmentation_and_resumes_it(self):
        arch = architecture("resnet18")
        data = image_data((3, 32, 32), train=12, val=4, test=4, augment=AugmentConfig(padding=4, flip=True))
        rows = model_rows(activation=["relu"], optimizer=["sgd"], lr=[0.05, 0.01], weight_decay=[5e-4])
        protocol = Protocol(4, 2, "onecycle")
        start = initial_population(arch, rows)
        through = run(self.make(arch, rows, data, protocol), start, 2)
        resumed = run(self.make(arch, rows, data, protocol), through[0][2], 1, first_epoch=2)
        alone = run(self.make(arch, rows.iloc[[1]], data, protocol), pick(start, [1]), 2)
        assert_same_models(through[1:], resumed, slice(None), exact=True)
        assert_same_models(through, alone, [1], exact=True)
        assert through[-1][2].buffers.shape == (2, arch.n_buffers)
        assert (through[-1][2].buffers != start.buffers).any()


class TestTorch(EngineTester):
    name = "torch"

    def test_onecycle_equals_the_loop(self):
        arch, data = architecture("cnn_s"), image_data()
        rows = model_rows(optimizer=["sgd"], lr=[0.05, 0.1], weight_decay=[5e-4])
        protocol = Protocol(10, 3, "onecycle")
        start = initial_population(arch, rows)
        ours = run(self.make(arch, rows, data, protocol), start, 3)
        judge = run(LoopEngine(arch, rows, data, protocol, dtype=torch.float64), start, 3)
        assert_same_models(judge, ours, slice(None), exact=False)

    def test_augmented_images_are_those_of_the_loop(self):
        arch = architecture("cnn_m")
        data = image_data(arch.image, augment=AugmentConfig(padding=4, flip=True, rotation=20.0))
        rows = model_rows(lr=[1e-3, 1e-4])
        start = initial_population(arch, rows)
        ours = run(self.make(arch, rows, data, Protocol(10, 1, "constant")), start, 1)
        loop = run(LoopEngine(arch, rows, data, Protocol(10, 1, "constant"), dtype=torch.float64), start, 1)
        assert_same_models(loop, ours, slice(None), exact=False)

    def test_refuses_a_module(self):
        assert "engine=loop" in refusal("torch", architecture("resnet18"), "cpu", False)
        assert refusal("torch", architecture("cnn_s"), "cpu", False) is None

    def test_a_step_reads_nothing_back_and_stays_on_its_device(self):
        """Within a step no value of a tensor is asked for, and none comes from elsewhere: on a GPU the host would wait, and
        no CUDA graph could be recorded. The device "meta" stands for it: what is there has no values at all."""
        engine = self.step_of("meta")
        engine.start_epoch(1)
        with OnlyOn("meta"):
            for group in engine.groups:
                group.train_step()
        engine.close()

    def test_what_is_not_on_the_device_is_noticed(self):
        engine = self.step_of("meta")
        engine.start_epoch(1)
        engine.factors = engine.factors.new_zeros(len(engine.factors), device="cpu")
        with OnlyOn("meta"), pytest.raises((AssertionError, RuntimeError)):
            engine.groups[0].train_step()
        engine.close()

    def step_of(self, device):
        """An engine with all that a step can have to do."""
        arch = architecture("cnn_s")
        data = image_data(arch.image, augment=AugmentConfig(padding=4, flip=True, rotation=20.0))
        rows = model_rows(optimizer=["adam", "sgd"], dropout=[0.5], weight_decay=[1e-3])
        engine = engine_class("torch")(arch, rows, data, Protocol(10, 2, "onecycle"), device, 1, lanes=2)
        engine.load(initial_population(arch, rows))
        return engine

    def test_a_step_reads_nothing_back(self):
        """The same of real values."""
        engine = self.step_of(self.device)
        engine.start_epoch(1)
        with OnlyOn(self.device):
            for group in engine.groups:
                group.train_step()
        engine.close()

    def test_many_lanes_are_evaluated_few_images_at_a_time(self, monkeypatch):
        """No layer of a group gives more values at once than CUDA's kernels can count, and the scores are the same."""
        arch, data = architecture("cnn_s"), image_data(test=77)
        rows = model_rows(activation=["tanh", "relu"])
        start, protocol = initial_population(arch, rows), Protocol(10, 1, "constant")
        largest = 8 * 24 * 24  # values of an image behind the first convolution
        assert self.make(arch, rows, data, protocol).evaluation_batch == EVALUATION_BATCH[self.device]
        many = engine_class("torch")(arch, rows, data, protocol, self.device, 1, lanes=40_000)
        assert many.evaluation_batch * many.lanes * largest <= EVALUATED_VALUES < 2**31
        engine = self.make(arch, rows, data, protocol)
        engine.load(start)
        whole = engine.outputs(data.test).cpu()
        monkeypatch.setattr(torch_engine, "EVALUATED_VALUES", 3 * engine.lanes * largest)
        assert engine.evaluation_batch == 3
        np.testing.assert_allclose(engine.outputs(data.test).cpu(), whole, rtol=1e-4, atol=1e-5)
        engine.close()
        many.close()


class OnlyOn(TorchDispatchMode):
    """Fails where an operation hands a value, or a shape that depends on values, to the host, or a tensor of another device
    takes part in it."""

    def __init__(self, device):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.overloadpacket not in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero), function
        results = function(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, results)):
            assert not isinstance(value, torch.Tensor) or value.device.type == self.device, function
        return results


@pytest.mark.cuda
class TestTorchOnCuda(TestTorch):
    device = "cuda"

    def test_a_recorded_step_is_the_step(self):
        """Bit by bit, over the end of an epoch with a partial batch."""
        arch, data = architecture("cnn_s"), image_data(train=57)
        rows = model_rows(optimizer=["adam", "sgd"], dropout=[0.0, 0.5])
        start, protocol = initial_population(arch, rows), Protocol(10, 2, "constant")
        recorded = run(self.make(arch, rows, data, protocol), start, 2)
        engine = self.make(arch, rows, data, protocol)
        engine.load(start)
        for group in engine.groups:
            group.recorded_step = lambda group=group: group.train_step
        for epoch in (1, 2):
            engine.start_epoch(epoch)
            engine.train(0, engine.steps_per_epoch)
            engine.finish_epoch()
        np.testing.assert_array_equal(engine.population().weights, recorded[-1][2].weights)
        engine.close()

    def test_models_that_are_loaded_anew_are_recorded_anew(self):
        """As pruning does between epochs: nothing of the recordings before is left."""
        arch, data = architecture("cnn_s"), image_data()
        rows = model_rows(optimizer=["adam", "sgd"])
        protocol = Protocol(10, 3, "constant", pruned=(0.2, 0.5, 0.8))
        populations = []
        for recorded in (True, False):
            engine = self.make(arch, rows, data, protocol)
            engine.load(initial_population(arch, rows))
            for epoch in (1, 2, 3):
                engine.prune(epoch)
                if not recorded:
                    for group in engine.groups:
                        group.recorded_step = lambda group=group: group.train_step
                engine.start_epoch(epoch)
                engine.train(0, engine.steps_per_epoch)
                engine.finish_epoch()
            populations.append(engine.population().weights)
            engine.close()
        np.testing.assert_array_equal(*populations)

    def test_nothing_waits_for_the_device_within_an_epoch(self):
        arch, data = architecture("cnn_s"), image_data()
        rows = model_rows(optimizer=["adam", "sgd"])
        engine = self.make(arch, rows, data, Protocol(10, 2, "constant"))
        engine.load(initial_population(arch, rows))
        engine.start_epoch(1)
        engine.train(0, 1)  # records
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this is a prototype
            torch.cuda.set_sync_debug_mode("error")
        try:
            engine.train(1, engine.steps_per_epoch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        engine.close()


class TestFused(EngineTester):
    name = "fused"

    def test_averages_of_dead_units_do_not_decay_into_slow_numbers(self):
        """Behind a relu that is never positive no gradient comes: the first moment is what is left of the one it had."""
        arch, data = architecture("cnn_s"), image_data()
        rows = model_rows(activation=["relu"], optimizer=["adam"], weight_decay=[0.0], dropout=[0.0])
        start = initial_population(arch, rows)
        start.weights[:] = -np.abs(start.weights)
        start.first_moment[:] = 2e-38
        engine = self.make(arch, rows, data, Protocol(10, 1, "constant"))
        engine.load(start)
        engine.start_epoch(1)
        engine.train(0, 5)  # 0.9^5 of 2e-38 is 1.18e-38, just large enough
        conv = slice(0, arch.layout[0].size)
        np.testing.assert_allclose(engine.population().first_moment[:, conv], 2e-38 * 0.9**5, rtol=1e-5)
        engine.train(5, 6)
        assert (engine.population().first_moment[:, conv] == 0).all()
        engine.close()

    def test_onecycle_equals_the_loop(self):
        arch, data = architecture("cnn_s"), image_data()
        rows = model_rows(optimizer=["sgd"], lr=[0.05, 0.1], weight_decay=[5e-4])
        start = initial_population(arch, rows)
        ours = run(self.make(arch, rows, data, Protocol(10, 3, "onecycle")), start, 3)
        judge = run(LoopEngine(arch, rows, data, Protocol(10, 3, "onecycle"), dtype=torch.float64), start, 3)
        assert_same_models(judge, ours, slice(None), exact=False)

    @pytest.mark.parametrize(
        ("layers", "words"),
        [
            (
                [{"conv": 4, "kernel": 3}, "activation", {"pool": 2}, "flatten", {"linear": 10}],
                "follow its convolution",
            ),
            ([{"conv": 4, "kernel": 3}, {"pool": 3}, "flatten", {"linear": 10}], "2x2"),
            (["dropout", "flatten", {"linear": 10}], "begin with"),
            (["flatten", {"linear": 10}, "activation"], "follows the last"),
        ],
    )
    def test_refuses_what_it_cannot_express_and_auto_takes_torch(self, layers, words):
        arch = Architecture("odd", (1, 8, 8), 10, layers)
        assert words in refusal("fused", arch, "cpu", False)
        assert choose("auto", arch, "cpu", False) == "torch"

    def test_auto(self):
        assert choose("auto", architecture("cnn_m"), "cpu", False) == "fused"
        assert choose("auto", architecture("cnn_m"), "gpu", False) == "torch"
        assert choose("auto", architecture("cnn_m"), "cpu", True) == "torch"
        assert choose("auto", architecture("resnet18"), "cpu", True) == "loop"


def test_onecycle_is_pytorchs():
    factors, momenta = schedule_table(Protocol(10, 4, "onecycle"), 25)
    assert len(factors) == len(momenta) == 100
    assert factors[0] == pytest.approx(1 / 25)
    assert max(factors) == pytest.approx(1.0)
    assert factors.index(max(factors)) in (29, 30)
    assert factors[-1] == pytest.approx(1 / 25 / 1e4)
    assert (momenta[0], min(momenta)) == (pytest.approx(0.95), pytest.approx(0.85))
    assert schedule_table(Protocol(10, 4, "constant"), 25) == ([1.0], [MOMENTUM])

"""Problems, optimizers, estimators and kinds of cell by name, registered by a decorator."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from l2l.suite.core.blame import blamed, class_at, shown, told
from l2l.suite.core.convert import fields_of
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.estimator import Estimator
from l2l.suite.core.generators import noticed_draws, seeded_generators
from l2l.suite.core.kind import Kind
from l2l.suite.core.nearest import nearest
from l2l.suite.core.types import Optimizer, Problem
from l2l.suite.core.wrapper import Options, options_in, wrapped

T = TypeVar("T", bound=type)
C = TypeVar("C", bound=type)


def _origin(cls: type) -> tuple[str, str]:
    """The file and the name in it of a class."""
    module = sys.modules.get(cls.__module__)
    return str(getattr(module, "__file__", cls.__module__)), cls.__qualname__


class Registry(Generic[T]):
    """Classes by name, all of them subclasses of `base`.

    `package` holds the modules that register themselves when imported.
    """

    def __init__(self, kind: str, package: str, base: type) -> None:
        self.kind = kind
        self._package = package
        self._base = base
        self._classes: dict[str, T] = {}
        self._loaded = False
        # Modules of the package that drew something random while they were imported.
        self.drew: set[str] = set()

    def _load(self) -> None:
        if self._loaded:
            return
        # Before, for the modules ask for what is registered while they are imported.
        self._loaded = True
        try:
            self._import_all()
        except BaseException:
            # Whoever asks next is told the same, and does not get the half that there is.
            self._loaded = False
            raise

    def _import_all(self) -> None:
        package = importlib.import_module(self._package)
        for module in pkgutil.walk_packages(package.__path__, f"{self._package}."):
            # Kernels register nothing, and some need what not everybody has.
            if not module.name.startswith("l2l.optimizers.kernels"):
                about = f"module {module.name}:"
                with (
                    blamed(about),
                    unregistered_on_error(),
                    seeded_generators(),
                    noticed_draws() as drawn,
                ):
                    importlib.import_module(module.name)
                if drawn:
                    self.drew.add(module.name)

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator: make a class known as `name`.

        Raises:
            SuiteError: it is written without a name.
        """
        if not isinstance(name, str):
            where = class_at(name) if isinstance(name, type) else repr(name)
            raise SuiteError(f'{where}: write @register_{self.kind.split()[0]}("name")')

        def add(cls: C) -> C:
            self.add(name, cls)
            return cls

        return add

    def add(self, name: str, cls: Any) -> None:
        """Make `cls` known as `name`; SuiteError if another class has that name."""
        known = self._classes.get(name)
        # A plugin loaded twice replaces itself; two different classes never share a name.
        if known is not None and _origin(known) != _origin(cls):
            raise SuiteError(
                f"{self.kind} {name!r} is registered twice, by {class_at(known)} and by "
                f"{class_at(cls)}: choose another name"
            )
        self._classes[name] = cls

    @property
    def loaded(self) -> tuple[T, ...]:
        """What is registered so far, maybe not all."""
        return tuple(self._classes.values())

    @contextmanager
    def apart(self) -> Iterator[dict[str, T]]:
        """What is registered within the block, by name; it is forgotten after it."""
        self._load()
        kept, self._classes = self._classes, {}
        try:
            yield self._classes
        finally:
            self._classes = kept

    def names(self) -> list[str]:
        """All names, sorted."""
        self._load()
        return sorted(self._classes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def cls(self, name: str) -> T:
        """The class registered under `name`.

        Raises:
            SuiteError: there is none, which says the nearest names, or it cannot be one.
        """
        self._load()
        if name not in self._classes:
            hint = nearest(name, self.names(), plugins=True)
            raise SuiteError(f"there is no {self.kind} {name!r}: {hint}")
        cls = self._classes[name]
        # Only now, for decorators come in any order.
        if fault := self._fault(cls):
            where = shown(_origin(cls)[0])
            raise SuiteError(f"{self.kind} {name!r}: {cls.__qualname__} in {where} {fault}")
        return cls

    def _fault(self, cls: T) -> str:
        """What is wrong with a class; empty if nothing."""
        if not issubclass(cls, self._base):
            return f"must be a subclass of {self._base.__name__}"
        if not dataclasses.is_dataclass(cls):
            return "must be a dataclass: write @dataclass(frozen=True) above it"
        if any(field.name == "name" for field in dataclasses.fields(cls)):
            return "has a field 'name', by which files name the class: give it another one"
        return ""

    def construct(self, cls: T, arguments: Mapping[str, Any]) -> Any:
        """An instance of a class from the arguments that `options` gives."""
        return cls(**arguments)

    def options(
        self, spec: Mapping[str, Any], where: str = "configuration", untuned: bool = False
    ) -> tuple[T, dict[str, Any]]:
        """The class and its arguments from ``{"name": …, field: value, …}``.

        Args:
            spec: name and fields.
            where: the place to name in errors.
            untuned: the field that is swept, if one is, may be missing.

        Raises:
            SuiteError: no such name, unknown or missing fields, or wrong types.
        """
        given = dict(spec)
        name = given.pop("name", None)
        if not isinstance(name, str):
            kind = f"{'an' if self.kind[0] in 'aeiou' else 'a'} {self.kind}"
            raise SuiteError(f"{where}: {kind} needs a 'name': {', '.join(self.names())}")
        try:
            cls = self.cls(name)
        except SuiteError as error:
            raise SuiteError(f"{where}: {error}") from None
        tuned = getattr(cls, "tuned", None)
        optional = [tuned] if untuned and tuned else []
        return cls, self._arguments(cls, given, f"{where}: {self.kind} {name!r}", optional)

    def _arguments(
        self, cls: T, given: Mapping[str, Any], where: str, optional: Sequence[str]
    ) -> dict[str, Any]:
        """What the fields that are given make of a class's arguments."""
        return fields_of(cls, given, where, optional)

    def make(self, spec: Mapping[str, Any], where: str = "configuration") -> Any:
        """An instance from ``{"name": …, field: value, …}``.

        Raises:
            SuiteError: as `options`, values that the class itself refuses with a `ValueError`, or
                whatever else it raises.
        """
        cls, arguments = self.options(spec, where)
        about = f"{where}: {self.kind} {spec['name']!r}"
        try:
            return self.construct(cls, arguments)
        except SuiteError as error:
            raise type(error)(f"{about}: {error}") from error
        except ValueError as error:
            # How a class refuses values: the sentence is its own.
            raise SuiteError(f"{about}: {error}") from error
        except Exception as error:
            raise SuiteError(f"{about}: {cls.__name__} raises {told(error)}") from error


class OptimizerRegistry(Registry[type[Optimizer]]):
    """Optimizers, which take the `Options` of `suite.core.wrapper` beside their own fields."""

    def _arguments(
        self,
        cls: type[Optimizer],
        given: Mapping[str, Any],
        where: str,
        optional: Sequence[str],
    ) -> dict[str, Any]:
        try:
            common = options_in(cls, given)
        except SuiteError as error:
            raise SuiteError(f"{where}: {error}") from error
        own = {key: value for key, value in given.items() if key not in common}
        elsewhere = [field.name for field in dataclasses.fields(Options)]
        arguments = fields_of(cls, own, where, optional, elsewhere)
        return arguments | fields_of(Options, common, where)

    def construct(self, cls: type[Optimizer], arguments: Mapping[str, Any]) -> Optimizer:
        return wrapped(cls, arguments)

    def _fault(self, cls: type[Optimizer]) -> str:
        if fault := super()._fault(cls):
            return fault
        fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        if cls.tuned is not None and cls.tuned not in fields:
            return f"has no field {cls.tuned!r}, which is to be tuned: {nearest(cls.tuned, fields)}"
        signature = inspect.signature(cls.update)
        try:
            signature.bind("self", "grads", "state", "params")
            # Where a state goes that is moved in place is no part of `update`.
            if "into" not in signature.parameters:
                return ""
        except TypeError:
            pass
        names = ", ".join(signature.parameters)
        return (
            f"has update({names}), but must have update(self, grads, state, params), where "
            "params.theta is the iterate [n, P]"
        )


class KindRegistry(Registry[type[Kind]]):
    """Kinds of cell, whose names begin the names of folders."""

    def add(self, name: str, cls: Any) -> None:
        if not re.fullmatch("[a-z]+", name):
            raise SuiteError(f"{self.kind} {name!r}: its name must consist of the letters a to z")
        super().add(name, cls)


problems: Registry[type[Problem]] = Registry("problem", "l2l.problems", Problem)
optimizers = OptimizerRegistry("optimizer", "l2l.optimizers", Optimizer)
estimators: Registry[type[Estimator]] = Registry(
    "estimator", "l2l.suite.meta.estimators", Estimator
)
kinds = KindRegistry("kind of cell", "l2l.suite.run.kinds", Kind)
REGISTRIES: tuple[Registry[Any], ...] = (problems, optimizers, estimators, kinds)


@contextmanager
def unregistered_on_error() -> Iterator[None]:
    """If the block raises, what a module registered that cannot be imported is forgotten."""
    before = [dict(registry._classes) for registry in REGISTRIES]
    try:
        yield
    except BaseException:
        for registry, classes in zip(REGISTRIES, before, strict=True):
            found = registry._classes.items()
            whole = {name: cls for name, cls in found if cls.__module__ in sys.modules}
            registry._classes = {**whole, **classes}
        raise


register_problem = problems.register
register_estimator = estimators.register
register_kind = kinds.register


def register_optimizer(name: str, tune: str | None = None) -> Callable[[C], C]:
    """Class decorator: make an `Optimizer` known as `name`; `tune` is the field that is swept."""
    add = optimizers.register(name)

    def register(cls: C) -> C:
        cls.tuned = tune  # type: ignore[attr-defined]
        return add(cls)

    return register

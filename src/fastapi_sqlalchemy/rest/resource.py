"""A resource: what the REST layer knows about one mapped class or one table.

Everything above (schemas, query grammar, serializer, router) reads a :class:`Resource` and never the mapper itself, so
that a mapped class and a reflected table behave alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar, cast, get_origin

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.sql.util import ClauseAdapter

from ..models.mixins import SoftDeleteMixin
from .fields import Field, field_of
from .narrowing import is_mapper, is_table
from .relations import Relation, mapper_relations, table_relations

__all__ = [
    "REPEATED_KEY",
    "Field",
    "Relation",
    "Resource",
    "ResourceRegistry",
    "Source",
    "entity_of",
    "key_of_table",
    "resource_for",
    "table_key",
]


REPEATED_KEY = "fastapi_sqlalchemy.repeated_key"
"""In a table's ``info``: rows may have the same key."""

_Property = TypeVar("_Property")


class Source:
    """One FROM element of a resource: its own table, or an alias of it.

    ``selectable`` goes into ``select_from``; ``column`` and ``adapt`` translate expressions written on the resource's
    own table.
    """

    __slots__ = ("_adapter", "resource", "selectable")

    def __init__(self, resource: Resource, selectable: sa.FromClause) -> None:
        self.resource = resource
        self.selectable = selectable
        self._adapter = None if selectable is resource.table else ClauseAdapter(selectable)

    def adapt(self, expression: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Return ``expression`` with the columns of the resource's table replaced by those of this source."""
        if self._adapter is None:
            return expression
        return self._adapter.traverse(expression)

    def column(self, item: Field | sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Return the column of a field (or of a table column) as this source has it."""
        return self.adapt(item.column if isinstance(item, Field) else item)

    @property
    def criteria(self) -> tuple[sa.ColumnElement[bool], ...]:
        """What always holds for a row of the resource (soft delete, single-table inheritance)."""
        return tuple(self.adapt(criterion) for criterion in self.resource.criteria)


@dataclass(eq=False)
class Resource:
    """The columns, key and relations of one mapped class or table, as the HTTP face shows them.

    ``fields`` is keyed by public name and holds every column, secret ones too: look at the flags of a
    :class:`Field`, or use :attr:`readable` and its siblings. ``key`` is empty where the table has no key (or a secret
    one): such a resource is list-only.
    """

    name: str
    table: sa.FromClause
    model: type[Any] | None
    fields: dict[str, Field]
    key: tuple[Field, ...]
    version: tuple[Field, ...] = ()
    deleted: Field | None = None
    read_only: bool = False
    doc: str | None = None
    exclude: frozenset[str] = frozenset()
    expose: frozenset[str] = frozenset()
    registry: ResourceRegistry = field(default_factory=lambda: ResourceRegistry(), repr=False)
    made: dict[Any, Any] = field(default_factory=dict[Any, Any], init=False, repr=False)
    """What is made of this resource once: its shape, its schemas."""

    @cached_property
    def criteria(self) -> tuple[sa.ColumnElement[bool], ...]:
        """What always holds for a row (soft delete, single-table inheritance); subclasses may be declared late."""
        found: list[sa.ColumnElement[bool]] = []
        if self.deleted is not None:
            found.append(self.deleted.column.is_(None))
        single = None if self.mapper is None else _single_table_criterion(self.mapper)
        if single is not None:
            found.append(single)
        return tuple(found)

    @cached_property
    def relations(self) -> dict[str, Relation]:
        """Relations by public name; read the first time they are asked for, so that models may be declared later."""
        if self.model is not None:
            found = mapper_relations(self.registry, sa.inspect(self.model))
        else:
            found = table_relations(self.registry, _table_of(self.table))
        return {
            relation.name: relation
            for relation in found
            if relation.name not in self.exclude
            and relation.name not in self.fields
            and self.registry.reachable(relation.entity)
        }

    @cached_property
    def readable(self) -> dict[str, Field]:
        """Fields that may leave: in bodies, CSV, ``fields=`` and cursors."""
        return {name: item for name, item in self.fields.items() if item.readable}

    @cached_property
    def filterable(self) -> dict[str, Field]:
        """Fields that a filter or a sort may name."""
        return {name: item for name, item in self.fields.items() if item.filterable}

    @cached_property
    def creatable(self) -> dict[str, Field]:
        """Fields that a create body may set."""
        return {name: item for name, item in self.fields.items() if item.writable}

    @cached_property
    def updatable(self) -> dict[str, Field]:
        """Fields that an update body may set."""
        return {name: item for name, item in self.fields.items() if item.updatable}

    @property
    def has_unique_key(self) -> bool:
        """Whether no two rows have the same key; a table of PostgreSQL has the rows of those that inherit from it."""
        return bool(self.key) and not (is_table(self.table) and self.table.info.get(REPEATED_KEY, False))

    @property
    def mapper(self) -> orm.Mapper[Any] | None:
        """The mapper of the model, or None for a plain table."""
        return None if self.model is None else sa.inspect(self.model)

    def field_of(self, column: sa.ColumnElement[Any]) -> Field | None:
        """Return the field that holds ``column``, or None."""
        return self._by_column.get(column)

    @cached_property
    def _by_column(self) -> dict[Any, Field]:
        return {alias: item for item in self.fields.values() for alias in item.columns}

    def source(self) -> Source:
        """Return the resource's own table as a FROM element."""
        return Source(self, self.table)

    def aliased(self, name: str | None = None) -> Source:
        """Return a new alias of the resource's table, for EXISTS and for joins to itself."""
        if isinstance(self.table, sa.Join):
            return Source(self, self.table.select().set_label_style(sa.LABEL_STYLE_TABLENAME_PLUS_COL).subquery(name))
        return Source(self, self.table.alias(name))


class ResourceRegistry:
    """Resources of one application: one per (model or table, exclude, expose), shared by routers and relations.

    A relation leads to the target's *declared* resource. Where several routers serve one target, the related view has
    the exclusions of all and only what every one of them exposes. A ``closed`` registry reaches nothing that was not
    declared.
    """

    def __init__(self, *, closed: bool = False) -> None:
        self.closed = closed
        self._resources: dict[tuple[Any, frozenset[str], frozenset[str]], Resource] = {}
        self._declared: dict[Any, list[Resource]] = {}

    def resource(self, entity: Any, exclude: Iterable[str] = (), expose: Iterable[str] = ()) -> Resource:
        """Return the resource of a mapped class or table, built once."""
        key = (entity, frozenset(exclude), frozenset(expose))
        found = self._resources.get(key)
        if found is None:
            found = self._resources[key] = _build(entity, key[1], key[2], self)
        return found

    def declare(self, resource: Resource) -> None:
        """Note that a router serves ``resource``: relations to its entity lead there."""
        self._declared.setdefault(entity_of(resource), []).append(resource)

    def reachable(self, entity: Any) -> bool:
        """Whether a relation may lead to ``entity``."""
        return not self.closed or entity in self._declared

    def related(self, entity: Any) -> Resource:
        """Return the resource that a relation to ``entity`` leads to."""
        declared = self._declared.get(entity)
        if not declared:
            return self.resource(entity)
        exclude = frozenset[str]().union(*(item.exclude for item in declared))
        expose = declared[0].expose.intersection(*(item.expose for item in declared))
        return self.resource(entity, exclude, expose)

    def __iter__(self) -> Iterator[Resource]:
        for resources in self._declared.values():
            yield from resources


_default_registry = ResourceRegistry()


def resource_for(
    model_or_table: Any,
    *,
    exclude: Iterable[str] = (),
    expose: Iterable[str] = (),
    registry: ResourceRegistry | None = None,
) -> Resource:
    """Return the resource of a mapped class or of a ``Table``, built once per registry.

    ``exclude`` names fields and relations to leave out; ``expose`` names secret-looking fields to show on purpose. A
    name that is not there is a ``ValueError``.
    """
    return (registry or _default_registry).resource(model_or_table, exclude, expose)


def entity_of(resource: Resource) -> Any:
    """Return what the resource was made from: the mapped class, or the table."""
    return resource.table if resource.model is None else resource.model


def table_key(resource: Resource) -> tuple[str | None, str]:
    """Return what tells the table of a resource from others of its database, whichever `Table` stands for it."""
    mapper = resource.mapper
    return key_of_table(resource.table if mapper is None else mapper.local_table)


def key_of_table(table: sa.FromClause) -> tuple[str | None, str]:
    """Return the schema and the name of a table; the schema that a database takes by itself is None."""
    schema = getattr(table, "schema", None)
    return (None if schema in ("public", "main") else schema, str(getattr(table, "name", id(table))))


def _build(entity: Any, exclude: frozenset[str], expose: frozenset[str], registry: ResourceRegistry) -> Resource:
    if isinstance(entity, sa.FromClause):
        return _from_table(_table_of(cast("sa.FromClause", entity)), exclude, expose, registry)
    mapper = sa.inspect(entity, raiseerr=False)
    if not is_mapper(mapper):
        raise TypeError(f"{entity!r} is neither a mapped class nor a Table; pass one of these.")
    return _from_mapper(mapper, exclude, expose, registry)


def _from_table(
    table: sa.Table, exclude: frozenset[str], expose: frozenset[str], registry: ResourceRegistry
) -> Resource:
    keys = list(table.primary_key.columns)
    found = (
        field_of(column.name, (column,), key=column in keys, expose=expose, reflected=True) for column in table.columns
    )
    fields = {item.name: item for item in found}
    _check_names(table.name, fields, exclude, expose, relations=())
    return _finish(
        Resource(
            name=table.name,
            table=table,
            model=None,
            fields=fields,
            key=tuple(fields[column.name] for column in keys),
            read_only=bool(table.info.get("read_only")),
            doc=table.comment,
            exclude=exclude,
            expose=expose,
            registry=registry,
        )
    )


def _from_mapper(
    mapper: orm.Mapper[Any], exclude: frozenset[str], expose: frozenset[str], registry: ResourceRegistry
) -> Resource:
    keys = set(mapper.primary_key)
    discriminator = mapper.polymorphic_on
    fields: dict[str, Field] = {}
    for attribute in _properties(mapper, orm.ColumnProperty[Any]):
        columns = tuple(attribute.columns)
        item = field_of(
            attribute.key,
            columns,
            key=any(column in keys for column in columns),
            expose=expose,
            version=mapper.version_id_col is not None and mapper.version_id_col in columns,
            generated=discriminator is not None and discriminator in columns,
            doc=attribute.doc,
        )
        fields[item.name] = item
    version = tuple(item for item in fields.values() if item.version)
    if not version and "updated_at" in fields:
        version = (fields["updated_at"],)
    deleted = _soft_delete(mapper, fields)
    _check_names(
        mapper.class_.__name__,
        fields,
        exclude,
        expose,
        relations=(item.key for item in _properties(mapper, orm.RelationshipProperty[Any])),
    )
    by_column = {column: item for item in fields.values() for column in item.columns}
    return _finish(
        Resource(
            name=mapper.class_.__name__,
            table=mapper.persist_selectable,
            model=mapper.class_,
            fields=fields,
            key=tuple(by_column[column] for column in mapper.primary_key if column in by_column),
            version=version,
            deleted=deleted,
            read_only=bool(getattr(mapper.local_table, "info", {}).get("read_only")),
            doc=getattr(mapper.local_table, "comment", None),
            exclude=exclude,
            expose=expose,
            registry=registry,
        )
    )


def _finish(resource: Resource) -> Resource:
    """Drop the excluded fields; a key that is secret or excluded, or no single value, is no key for the outside."""
    usable = (item for item in resource.fields.values() if item.readable and item.python_type not in (list, dict, set))
    visible = {item.name for item in usable} - resource.exclude
    if any(item.name not in visible for item in resource.key):
        resource.key = ()
    resource.fields = {
        name: item.hidden() if name in resource.exclude else item for name, item in resource.fields.items()
    }
    return resource


def _check_names(
    owner: str, fields: dict[str, Field], exclude: frozenset[str], expose: frozenset[str], relations: Iterable[str]
) -> None:
    unknown = sorted((exclude - set(relations) | expose) - set(fields))
    if unknown:
        raise ValueError(f"{owner} has no field named {', '.join(unknown)}; it has: {', '.join(sorted(fields))}.")


def _properties(mapper: orm.Mapper[Any], kind: type[_Property]) -> Iterator[_Property]:
    """Properties of one kind, without configuring the mappers: related models may not be declared yet."""
    declared: Any = vars(mapper)["_props"]
    return (item for item in declared.values() if isinstance(item, get_origin(kind) or kind))


def _soft_delete(mapper: orm.Mapper[Any], fields: dict[str, Field]) -> Field | None:
    """The field that marks a deleted row: ``deleted_at`` of the mixin, or the one that ``__soft_delete__`` names."""
    name = getattr(mapper.class_, "__soft_delete__", None)
    if name is None and issubclass(mapper.class_, SoftDeleteMixin):
        name = "deleted_at"
    if name is None:
        return None
    fields[name] = replace(fields[name], writable=False, updatable=False, required=False)
    return fields[name]


def _single_table_criterion(mapper: orm.Mapper[Any]) -> sa.ColumnElement[bool] | None:
    if not mapper.single or mapper.polymorphic_on is None:
        return None
    identities = [item.polymorphic_identity for item in mapper.self_and_descendants]
    return mapper.polymorphic_on.in_(identities)


def _table_of(selectable: sa.FromClause) -> sa.Table:
    if not is_table(selectable):
        raise TypeError(f"{selectable!r} is neither a mapped class nor a Table; pass one of these.")
    return selectable

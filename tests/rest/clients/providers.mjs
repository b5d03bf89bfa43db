// Drives the real data providers against a served application and writes what they sent and got as JSON.
// usage: node providers.mjs http://127.0.0.1:8000     (run.py does the rest)
import assert from "node:assert/strict";
import simpleRest from "ra-data-simple-rest";
import jsonServer from "ra-data-json-server";
import refineModule, { axiosInstance } from "@refinedev/simple-rest";

const url = process.argv[2];
const calls = [];
let exchanges = [];

const kept = ["content-type", "range"];
const told = ["content-type", "content-range", "x-total-count"];
const header = (headers, names) =>
  Object.fromEntries(names.filter((name) => headers.get(name)).map((name) => [name, headers.get(name)]));
const path = (address) => address.slice(url.length);

const plainFetch = globalThis.fetch;
globalThis.fetch = async (address, options = {}) => {
  const exchange = { method: options.method ?? "GET", path: path(String(address)) };
  exchange.headers = header(new Headers(options.headers), kept);
  if (options.body !== undefined) exchange.body = options.body;
  exchanges.push(exchange);
  const response = await plainFetch(address, options);
  Object.assign(exchange, { status: response.status, told: header(response.headers, told) });
  exchange.answer = await response.clone().json();
  return response;
};

const note = (response) => {
  const { config } = response;
  const exchange = { method: config.method.toUpperCase(), path: path(config.url) };
  exchange.headers = header(new Headers(config.headers.toJSON()), kept);
  if (config.data !== undefined) exchange.body = config.data;
  Object.assign(exchange, { status: response.status, told: header(new Headers(response.headers.toJSON()), told) });
  exchange.answer = response.data;
  exchanges.push(exchange);
};
axiosInstance.interceptors.response.use(
  (response) => (note(response), response),
  (error) => Promise.reject(error),
);

// A call by its name, with what it gave back; `check` says what that has to be.
async function call(client, provider, method, resource, parameters, check) {
  exchanges = [];
  const found = resource === undefined ? await provider[method](parameters) : await provider[method](resource, parameters);
  check(found);
  calls.push({ client, method, exchanges });
  return found;
}

const ids = (found) => found.data.map((row) => row.id);
const same = (expected) => (found) => assert.deepEqual(ids(found), expected);

async function reactAdmin(client, provider, embed) {
  const go = (method, resource, parameters, check) => call(client, provider, method, resource, parameters, check);
  const page = (number, size) => ({ page: number, perPage: size });

  await go("getList", "posts", { pagination: page(1, 10), sort: { field: "id", order: "ASC" }, filter: {} }, (found) => {
    assert.equal(found.total, 27);
    assert.deepEqual(ids(found), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });
  await go("getList", "posts", { pagination: page(3, 10), sort: { field: "id", order: "ASC" }, filter: {} }, (found) => {
    assert.equal(found.total, 27);
    assert.equal(found.data.length, 7);
  });
  await go("getList", "posts", { pagination: page(9, 10), sort: { field: "id", order: "ASC" }, filter: {} }, (found) => {
    assert.equal(found.total, 27);
    assert.deepEqual(found.data, []);
  });
  const byViews = { pagination: page(1, 3), sort: { field: "views", order: "DESC" } };
  await go("getList", "posts", { ...byViews, filter: { author_id: 1, is_public: true } }, (found) => {
    assert.equal(found.total, 7);
    assert.deepEqual(found.data.map((row) => row.views), [60, 60, 40]);
  });
  await go("getList", "posts", { ...byViews, filter: { q: "LAMP 2" } }, (found) => assert.equal(found.total, 3));
  await go("getList", "posts", { ...byViews, filter: { title_like: "POST, ", views_gte: 10, views_lte: 20 } }, (found) =>
    assert.equal(found.total, 4));
  await go("getList", "posts", { ...byViews, filter: { "author.name": "Ben, jr" } }, (found) => assert.equal(found.total, 9));
  await go("getList", "posts", { ...byViews, filter: { author: { name: "Ben, jr" }, id_ne: 1 } }, (found) =>
    assert.equal(found.total, 8));
  await go("getList", "posts", { ...byViews, filter: {}, meta: { embed } }, (found) =>
    assert.ok(found.data.every((row) => row.author.name)));
  await go("getOne", "posts", { id: 5 }, (found) => assert.equal(found.data.title, "Post 05"));
  await go("getOne", "posts", { id: 5, meta: { embed } }, (found) => assert.equal(found.data.author.name, "Cy"));
  await go("getMany", "posts", { ids: [3, 1, 27] }, same([1, 3, 27]));
  await go("getMany", "posts", { ids: [4] }, same([4]));
  await go("getMany", "posts", { ids: Array.from({ length: 80 }, (_, number) => number) }, (found) =>
    assert.equal(found.data.length, 27));
  const children = { target: "author_id", id: 2, pagination: page(1, 4), sort: { field: "id", order: "DESC" }, filter: {} };
  await go("getManyReference", "posts", children, (found) => {
    assert.equal(found.total, 9);
    assert.deepEqual(ids(found), [25, 22, 19, 16]);
  });
  await go("getManyReference", "posts", { ...children, filter: { is_public: false } }, (found) => assert.equal(found.total, 2));

  const made = await go("create", "posts", { data: { title: "made", views: 1, price: 2.5, author_id: 1 } }, (found) =>
    assert.ok(found.data.id > 27 && found.data.price === "2.50"));
  const record = made.data;
  const changed = { id: record.id, data: { ...record, title: "changed" }, previousData: record };
  await go("update", "posts", changed, (found) => assert.deepEqual(found.data, { ...record, title: "changed" }));
  await go("update", "posts", { id: record.id, data: { views: 7 }, previousData: record }, (found) =>
    assert.deepEqual([found.data.views, found.data.title, found.data.price], [7, "changed", "2.50"]));
  const other = await go("create", "posts", { data: { title: "other" } }, (found) => assert.equal(found.data.views, 0));
  const both = [record.id, other.data.id];
  await go("updateMany", "posts", { ids: both, data: { is_public: false } }, (found) => assert.deepEqual(found.data, both));
  await go("getMany", "posts", { ids: both }, (found) => assert.ok(found.data.every((row) => row.is_public === false)));
  await go("delete", "posts", { id: record.id, previousData: record }, (found) => assert.equal(found.data.id, record.id));
  await go("deleteMany", "posts", { ids: [other.data.id] }, (found) => assert.deepEqual(found.data, [other.data.id]));

  // a key of another name: the row has an id all the same, and what refers to it finds it
  const countries = { pagination: page(1, 2), sort: { field: "id", order: "DESC" } };
  await go("getList", "countries", { ...countries, filter: {} }, same(["pe", "no"]));
  await go("getList", "countries", { ...countries, filter: { id: ["it", "no"], id_ne: "no" } }, same(["it"]));
  const authors = await go("getMany", "authors", { ids: [1, 2] }, same([1, 2]));
  await go("getMany", "countries", { ids: authors.data.map((row) => row.country_code) }, same(["it", "no"]));
  const country = (await go("getOne", "countries", { id: "it" }, (found) => assert.equal(found.data.name, "Italy"))).data;
  await go("update", "countries", { id: "it", data: { ...country, name: "Italia" }, previousData: country }, (found) =>
    assert.deepEqual(found.data, { id: "it", code: "it", name: "Italia" }));
  await go("update", "countries", { id: "it", data: { name: "Italy" }, previousData: country }, (found) =>
    assert.deepEqual(found.data, country));
  await go("create", "countries", { data: { code: "fo", name: "Faroes" } }, (found) => assert.equal(found.data.id, "fo"));
  await go("deleteMany", "countries", { ids: ["fo"] }, (found) => assert.deepEqual(found.data, ["fo"]));

  // a key of two parts: the id is the key as a path has it
  const lines = await go("getList", "lines", { pagination: page(1, 3), sort: { field: "id", order: "ASC" }, filter: { order_id: 2 } },
    (found) => assert.deepEqual([ids(found), found.total], [["2,a", "2,b~2Fc", "2,d~2Ce"], 3]));
  await go("getMany", "lines", { ids: ["3,b~2Fc", "1,a"] }, same(["1,a", "3,b~2Fc"]));
  const several = Array.from({ length: 240 }, (_, number) => `${1 + (number % 60)},${"abcd"[Math.floor(number / 60)]}`);
  await go("getMany", "lines", { ids: several }, same(["1,a", "2,a", "3,a"]));
  const line = lines.data[1];
  await go("getOne", "lines", { id: line.id }, (found) => assert.deepEqual(found.data, line));
  await go("update", "lines", { id: line.id, data: { ...line, amount: 5 }, previousData: line }, (found) =>
    assert.deepEqual(found.data, { ...line, amount: 5 }));
  await go("update", "lines", { id: line.id, data: { amount: line.amount }, previousData: line }, (found) =>
    assert.deepEqual(found.data, line));
  await go("create", "lines", { data: { order_id: 9, place: "z", amount: 1 } }, (found) => assert.equal(found.data.id, "9,z"));
  await go("delete", "lines", { id: "9,z", previousData: {} }, (found) => assert.equal(found.data.id, "9,z"));

  // what goes wrong: a message to show, and errors by field for the form
  exchanges = [];
  const failed = await provider.create("posts", { data: { title: 5, views: "many" } }).catch((error) => error);
  assert.equal(failed.status, 422);
  assert.ok(failed.message.includes("title") && failed.body.errors.title && failed.body.errors.views);
  assert.equal(failed.body.errors.root.serverError, failed.message);
  calls.push({ client, method: "create", exchanges });
  exchanges = [];
  const twice = await provider.create("authors", { data: { name: "Ada" } }).catch((error) => error);
  assert.equal(twice.status, 409);
  assert.equal(twice.body.errors.name, twice.message);
  calls.push({ client, method: "create", exchanges });
}

async function refine(client, provider) {
  const go = (method, parameters, check) => call(client, provider, method, undefined, parameters, check);
  const list = (parameters, check) => go("getList", { resource: "posts", ...parameters }, check);

  await list({ pagination: { currentPage: 2, pageSize: 10 }, sorters: [{ field: "id", order: "desc" }] }, (found) => {
    assert.equal(found.total, 27);
    assert.deepEqual(ids(found), [17, 16, 15, 14, 13, 12, 11, 10, 9, 8]);
  });
  await list({}, (found) => assert.deepEqual([found.data.length, found.total], [10, 27]));
  await list({ pagination: { mode: "off" } }, (found) => assert.deepEqual([found.data.length, found.total], [27, 27]));
  const sorters = [{ field: "views", order: "desc" }, { field: "id", order: "asc" }];
  await list({ pagination: { currentPage: 1, pageSize: 4 }, sorters }, same([6, 13, 20, 27]));
  const filters = (...found) => ({ filters: found.map(([field, operator, value]) => ({ field, operator, value })), sorters });
  await list(filters(["author_id", "eq", 1], ["is_public", "ne", false]), (found) => assert.equal(found.total, 7));
  await list(filters(["title", "contains", "POST, "], ["views", "gte", 10], ["views", "lte", 20]), (found) =>
    assert.equal(found.total, 4));
  await list(filters(["q", "eq", "lamp 2"]), (found) => assert.equal(found.total, 3));
  await list(filters(["author.name", "eq", "Ben, jr"]), (found) => assert.equal(found.total, 9));
  await list(filters(["author.name", "in", ["Ben, jr", "Cy"]]), (found) => assert.equal(found.total, 18));
  await go("getMany", { resource: "posts", ids: [27, 2] }, same([2, 27]));
  await go("getMany", { resource: "posts", ids: ["2"] }, same([2]));
  await go("getOne", { resource: "posts", id: 5 }, (found) => assert.equal(found.data.title, "Post 05"));
  const made = await go("create", { resource: "posts", variables: { title: "made", price: "2.50", author_id: 1 } }, (found) =>
    assert.ok(found.data.id > 27));
  const id = made.data.id;
  await go("update", { resource: "posts", id, variables: { views: 3 } }, (found) =>
    assert.deepEqual(found.data, { ...made.data, views: 3 }));
  await go("update", { resource: "posts", id, variables: { ...made.data, title: "all" } }, (found) =>
    assert.deepEqual(found.data, { ...made.data, title: "all" }));
  await go("update", { resource: "posts", id, variables: { title: "put" }, meta: { method: "put" } }, (found) =>
    assert.deepEqual(found.data, { ...made.data, title: "put" }));
  await go("deleteOne", { resource: "posts", id, variables: { reason: "a body" } }, (found) => assert.equal(found.data.id, id));
  await go("getList", { resource: "countries", sorters: [{ field: "id", order: "desc" }] }, same(["pe", "no", "it"]));
  await go("getMany", { resource: "countries", ids: ["no", "it"] }, same(["it", "no"]));
  await go("update", { resource: "countries", id: "no", variables: { id: "no", code: "no", name: "Norge" } }, (found) =>
    assert.equal(found.data.name, "Norge"));
  await go("update", { resource: "countries", id: "no", variables: { name: "Norway" } }, (found) =>
    assert.equal(found.data.name, "Norway"));
  await go("getMany", { resource: "lines", ids: ["1,a", "2,d~2Ce"] }, same(["1,a", "2,d~2Ce"]));
  await go("getOne", { resource: "lines", id: "2,d~2Ce" }, (found) => assert.equal(found.data.place, "d,e"));

  const failed = await provider.update({ resource: "posts", id: 1, variables: { views: "many" } }).catch((error) => error);
  assert.equal(failed.statusCode, 422);
  assert.ok(failed.message.includes("views"));
}

await reactAdmin("ra-data-simple-rest", simpleRest(url), ["author"]);
await reactAdmin("ra-data-json-server", jsonServer(url), "author");
const refineProvider = refineModule.default ?? refineModule;
await refine("@refinedev/simple-rest", refineProvider(url));
process.stdout.write(`${JSON.stringify(calls)}\n`);

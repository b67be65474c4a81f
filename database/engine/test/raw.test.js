import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Running, tables } from './running.js'

/** @type {Running} */
let engine
before(async () => (engine = await Running.start(await tables('engine_raw'))))
after(() => engine.stop())

for (const [sql, type, value] of [
  ['1::int2', 'int', 1],
  ['1::int4', 'int', 1],
  ['9007199254740993::int8', 'bigint', '9007199254740993'],
  ['1.5::float4', 'float', 1.5],
  ['0.1::float8', 'double', 0.1],
  ['1.10::numeric', 'decimal', '1.1'],
  ["'x'::text", 'string', 'x'],
  ["'x'::varchar(3)", 'string', 'x'],
  ["'x'::name", 'string', 'x'],
  ['\'x\'::"char"', 'string', 'x'],
  ['true', 'bool', true],
  ["'\\xff00'::bytea", 'bytes', '/wA='],
  ["'1 day 02:00:00'::interval", 'string', '1 day 02:00:00'],
  ["'11111111-2222-3333-4444-555555555555'::uuid", 'uuid', '11111111-2222-3333-4444-555555555555'],
  ["'2024-02-29 12:00:00.123456'::timestamp", 'datetime', '2024-02-29T12:00:00.123456+00:00'],
  ["'2024-02-29 12:00:00+02'::timestamptz", 'datetime', '2024-02-29T10:00:00+00:00'],
  ["'2024-02-29'::date", 'date', '2024-02-29'],
  ["'12:34:56'::time", 'time', '12:34:56'],
  [`'{"a": [1, "x", null]}'::jsonb`, 'json', { a: [1, 'x', null] }],
  [`'"text"'::jsonb`, 'json', 'text'],
  [`'"{\\"a\\": 1}"'::jsonb`, 'json', '{"a": 1}'],
  [`'{"$type": "BigInt", "value": "1"}'::jsonb`, 'json', { $type: 'BigInt', value: '1' }],
  ['\'GREEN\'::engine_raw."Colour"', 'string', 'GREEN'],
  ["'127.0.0.1'::inet", 'string', '127.0.0.1'],
  ['NULL::int', 'null', null],
  ["'null'::jsonb", 'null', null],
]) {
  test(`${sql} is a ${type}`, async () => {
    assert.deepEqual(await engine.raw(`SELECT ${sql} AS x`), [{ x: { prisma__type: type, prisma__value: value } }])
  })
}

for (const [sql, type, values] of [
  ["ARRAY['a', NULL, '{b}']", 'string', ['a', null, '{b}']],
  ['ARRAY[1, 2]', 'int', [1, 2]],
  ['ARRAY[9007199254740993, NULL]::int8[]', 'bigint', ['9007199254740993', null]],
  ['ARRAY[]::text[]', 'string', []],
  ["ARRAY['2024-02-29 10:00:00+00'::timestamptz]", 'datetime', ['2024-02-29T10:00:00+00:00']],
  [`ARRAY['{"a": 1}']::jsonb[]`, 'json', [{ a: 1 }]],
]) {
  test(`${sql} is an array, each value with its type`, async () => {
    const elements = values.map((value) => ({ prisma__type: value === null ? 'null' : type, prisma__value: value }))
    assert.deepEqual(await engine.raw(`SELECT ${sql} AS x`), [
      { x: { prisma__type: 'array', prisma__value: elements } },
    ])
  })
}

for (const [value, cast, expected = value] of [
  ['text', 'text'],
  ['quote \' " \\ \u2028 $1', 'text'],
  [null, 'text'],
  [true, 'bool'],
  [9007199254740, 'int8', '9007199254740'],
  [1.5, 'float8'],
  ['2024-02-29T10:00:00+00:00', 'timestamptz'],
  ['2024-02-29T10:00:00+00:00', 'timestamp'],
  [
    ['a', 'b'],
    'text[]',
    [
      { prisma__type: 'string', prisma__value: 'a' },
      { prisma__type: 'string', prisma__value: 'b' },
    ],
  ],
  [{ a: 1 }, 'jsonb'],
  ['{"a": 1}', 'jsonb', { a: 1 }],
]) {
  test(`a parameter ${JSON.stringify(value)} as ${cast}`, async () => {
    const [{ x }] = await engine.raw(`SELECT $1::${cast} AS x`, value)
    assert.deepEqual(x.prisma__value, expected)
  })
}

test('integers beyond 2^53 as parameters', async () => {
  const query = 'SELECT $1::int8::text AS x'
  const result = await engine.result(`result: queryRaw(query: "${query}", parameters: "[9007199254740993]")`)
  assert.equal(result[0].x.prisma__value, '9007199254740993')
})

test('no number in a result is rounded', async () => {
  const body = {
    query: `mutation { result: queryRaw(query: "SELECT '[9007199254740993, 1.0]'::jsonb AS j, 2.0::float8 AS f", parameters: "[]") }`,
  }
  const text = await (await engine.request('POST', '/', body)).text()
  assert.match(text, /\[9007199254740993,1\.0\]/)
  assert.match(text, /"prisma__value":2\.0/)
})

test('no rows are an empty list', async () => assert.deepEqual(await engine.raw('SELECT 1 AS x WHERE false'), []))

test('a statement says how many rows it changed', async () => {
  await engine.result('result: createManyThing(data: [{ id: "a" }, { id: "b" }]) { count }')
  assert.equal(
    await engine.result(`result: executeRaw(query: "UPDATE \\"Thing\\" SET text = $1", parameters: "[\\"x\\"]")`),
    2,
  )
})

for (const [name, sql, code, message] of [
  ['no SQL', 'SELEC 1', '42601', /syntax error/],
  ['a table that is not there', 'SELECT * FROM nowhere', undefined, /nowhere/],
  ['a value of another type', "SELECT 'secret value'::int", '22P02', /invalid input syntax for type integer/],
]) {
  test(`${name} is an error without values`, async () => {
    const error = await engine.error(`result: queryRaw(query: ${JSON.stringify(sql)}, parameters: "[]")`)
    assert.match(error.message, message)
    assert.doesNotMatch(JSON.stringify(error), /secret value/)
    if (code) assert.deepEqual([error.error_code, error.meta.code], ['P2010', code])
  })
}

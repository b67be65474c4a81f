import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Running, tables } from './running.js'

/** @type {Running} */
let engine
before(async () => {
  engine = await Running.start(await tables('engine_queries'))
  const thing = (id, fields) => `{ id: "${id}" ${fields} }`
  const things = [
    thing(
      'a',
      'text: "Apple" whole: 1 big: 10 real: 0.5 yes: true texts: ["x", "y"] json: "{\\"kind\\": {\\"name\\": \\"fruit\\"}, \\"tags\\": [1, 2]}" time: "2024-01-01T00:00:00Z"',
    ),
    thing(
      'b',
      'text: "banana" whole: 2 big: 9007199254740993 real: 1.5 yes: false texts: ["y"] json: "{\\"kind\\": {\\"name\\": \\"fruit\\"}}" time: "2024-01-02T00:00:00Z"',
    ),
    thing('c', 'text: "cherry" whole: 3 big: 9007199254740992 texts: [] json: "\\"fruit\\""'),
    thing('d', 'whole: 3'),
  ]
  await engine.result(`result: createManyThing(data: [${things}]) { count }`)
  await engine.result(`result: createOneTeam(data: {
    id: 1 name: "one" data: "{\\"level\\": 1}"
    members: { create: [{ user: "ann" spend: 2.5 info: "\\"admin\\"" }, { user: "bob" spend: 1.25 tokens: 9007199254740993 info: "{}" }] }
    budget: { create: { limits: "[1, 2]" } }
  }) { id }`)
  await engine.result('result: createOneTeam(data: { id: 2 name: "two" }) { id }')
})
after(() => engine.stop())

const found = async (where, more = '') => {
  const rows = await engine.result(`result: findManyThing(where: ${where} orderBy: [{ id: "asc" }] ${more}) { id }`)
  return rows.map(({ id }) => id).join('')
}

for (const [name, where, ids] of [
  ['a value', '{ text: "Apple" }', 'a'],
  ['null', '{ text: null }', 'd'],
  ['equals', '{ text: { equals: "Apple" } }', 'a'],
  ['not', '{ text: { not: "Apple" } }', 'bc'],
  ['not null', '{ text: { not: null } }', 'abc'],
  ['a nested not', '{ whole: { not: { gt: 1 } } }', 'a'],
  ['in', '{ id: { in: ["a", "d", "none"] } }', 'ad'],
  ['in nothing', '{ id: { in: [] } }', ''],
  ['notIn', '{ id: { notIn: ["a", "d"] } }', 'bc'],
  ['contains', '{ text: { contains: "an" } }', 'b'],
  ['startsWith, of any case', '{ text: { startsWith: "APP" mode: "insensitive" } }', 'a'],
  ['endsWith', '{ text: { endsWith: "y" } }', 'c'],
  ['greater and less', '{ whole: { gt: 1 lt: 3 } }', 'b'],
  ['BigInt, each of its digits', '{ big: 9007199254740993 }', 'b'],
  ['BigInt, greater', '{ big: { gt: 9007199254740992 } }', 'b'],
  ['BigInt in a list', '{ big: { in: [9007199254740993, 10] } }', 'ab'],
  ['DateTime', '{ time: { gte: "2024-01-01T12:00:00+00:00" } }', 'b'],
  ['Boolean', '{ yes: true }', 'a'],
  ['Float', '{ real: { lte: 1 } }', 'a'],
  ['has', '{ texts: { has: "x" } }', 'a'],
  ['hasSome', '{ texts: { hasSome: ["x", "y"] } }', 'ab'],
  ['hasEvery', '{ texts: { hasEvery: ["x", "y"] } }', 'a'],
  ['isEmpty, which null is not', '{ texts: { isEmpty: true } }', 'c'],
  ['AND, of a list', '{ AND: [{ whole: 3 }, { text: { not: null } }] }', 'c'],
  ['OR', '{ OR: [{ id: "a" }, { whole: 2 }] }', 'ab'],
  ['NOT', '{ NOT: [{ id: "a" }] }', 'bcd'],
  ['OR within AND within NOT', '{ NOT: { AND: [{ OR: [{ id: "a" }, { id: "b" }] }, { yes: true }] } }', 'bcd'],
  ['Json that equals', '{ json: { equals: "\\"fruit\\"" } }', 'c'],
  ['Json that does not equal', '{ json: { not: "\\"fruit\\"" } }', 'ab'],
  ['Json equal in other words', '{ json: { equals: "{ \\"kind\\": {\\"name\\":\\"fruit\\"}}" } }', 'b'],
  ['Json at a path', '{ json: { path: ["kind", "name"] equals: "\\"fruit\\"" } }', 'ab'],
  ['Json at a path, in a list', '{ json: { path: ["tags", "0"] equals: "1" } }', 'a'],
  ['Json that contains a string', '{ json: { path: ["kind", "name"] string_contains: "rui" } }', 'ab'],
  ['Json that starts with a string', '{ json: { path: ["kind", "name"] string_starts_with: "fr" } }', 'ab'],
  ['Json whose list contains', '{ json: { path: ["tags"] array_contains: "[2]" } }', 'a'],
  ['Json greater than', '{ json: { path: ["tags", "1"] gt: "1" } }', 'a'],
  ['Json that is not there', '{ json: { equals: DbNull } }', 'd'],
]) {
  test(`a filter by ${name}`, async () => assert.equal(await found(where), ids))
}

for (const [name, rest, ids] of [
  ['take', 'take: 2', 'ab'],
  ['take the last', 'take: -1', 'd'],
  ['skip', 'skip: 3', 'd'],
  ['cursor', 'cursor: { id: "b" } take: 2', 'bc'],
  ['cursor, exclusive', 'cursor: { id: "b" } skip: 1', 'cd'],
  ['distinct', 'distinct: ["whole"]', 'abc'],
]) {
  test(name, async () => assert.equal(await found('{}', rest), ids))
}

test('order by several fields', async () => {
  const rows = await engine.result('result: findManyThing(orderBy: [{ whole: "desc" }, { id: "desc" }]) { id }')
  assert.equal(rows.map(({ id }) => id).join(''), 'dcba')
})

test('order with nulls last', async () => {
  const order = '{ text: { sort: "asc" nulls: "last" } }'
  const rows = await engine.result(`result: findManyThing(orderBy: [${order}]) { id }`)
  assert.equal(rows.at(-1).id, 'd')
})

test('what is not there is null, or P2025', async () => {
  assert.equal(await engine.result('result: findUniqueThing(where: { id: "none" }) { id }'), null)
  assert.equal(await engine.result('result: findFirstThing(where: { id: "none" }) { id }'), null)
  const error = await engine.error('result: findFirstThingOrThrow(where: { id: "none" }) { id }')
  assert.equal(error.error_code, 'P2025')
  assert.equal((await engine.error('result: findUniqueThingOrThrow(where: { id: "none" }) { id }')).error_code, 'P2025')
})

test('a compound key', async () => {
  const where = '{ team_id_user: { team_id: 1 user: "ann" } }'
  assert.deepEqual(await engine.result(`result: findUniqueMember(where: ${where}) { user spend info }`), {
    user: 'ann',
    spend: 2.5,
    info: '"admin"',
  })
})

test('relations are included, with arguments of their own', async () => {
  assert.deepEqual(
    await engine.result(`result: findManyTeam(orderBy: { id: "asc" }) {
      name data members(where: { spend: { gt: 2 } }) { user info team { name } } budget { limits }
    }`),
    [
      {
        name: 'one',
        data: '{"level":1}',
        members: [{ user: 'ann', info: '"admin"', team: { name: 'one' } }],
        budget: { limits: '[1,2]' },
      },
      { name: 'two', data: null, members: [], budget: null },
    ],
  )
})

for (const [name, where, teams] of [
  ['some', '{ members: { some: { info: { equals: "\\"admin\\"" } } } }', ['one']],
  ['every', '{ members: { every: { spend: { gt: 2 } } } }', ['two']],
  ['none', '{ members: { none: { user: "ann" } } }', ['two']],
  ['is', '{ budget: { is: { limits: { equals: "[1, 2]" } } } }', ['one']],
  ['is, unsaid', '{ budget: { limits: { equals: "[1, 2]" } } }', ['one']],
  ['isNot', '{ budget: { isNot: null } }', ['one']],
]) {
  test(`a filter by a relation: ${name}`, async () => {
    const rows = await engine.result(`result: findManyTeam(where: ${where}) { name }`)
    assert.deepEqual(
      rows.map((row) => row.name),
      teams,
    )
  })
}

test('a filter through two relations', async () => {
  const where = '{ team: { members: { some: { info: { equals: "\\"admin\\"" } } } } user: "bob" }'
  assert.deepEqual(await engine.result(`result: findManyMember(where: ${where}) { user }`), [{ user: 'bob' }])
})

test('count', async () => {
  assert.deepEqual(await engine.result('result: aggregateThing(where: { whole: 3 }) { _count { _all text } }'), {
    _count: { _all: 2, text: 1 },
  })
})

test('aggregates', async () => {
  assert.deepEqual(
    await engine.result(
      'result: aggregateThing { _sum { whole big real } _avg { whole } _min { text } _max { time } }',
    ),
    {
      _sum: { whole: 9, big: '18014398509481995', real: 2 },
      _avg: { whole: 2.25 },
      _min: { text: 'Apple' },
      _max: { time: '2024-01-02T00:00:00.000Z' },
    },
  )
})

test('group by, with a filter, a condition and an order', async () => {
  assert.deepEqual(
    await engine.result(`result: groupByThing(
      by: ["whole"] where: { id: { not: "a" } } having: { whole: { _count: { gte: 1 } } } orderBy: [{ _count: { id: "desc" } }] take: 1
    ) { whole _count { _all } _max { id } }`),
    [{ whole: 3, _count: { _all: 2 }, _max: { id: 'd' } }],
  )
})

test('group by sums each digit of a BigInt', async () => {
  assert.deepEqual(await engine.result('result: groupByMember(by: ["team_id"]) { team_id _sum { spend tokens } }'), [
    { team_id: 1, _sum: { spend: 3.75, tokens: '9007199254740993' } },
  ])
})

test('a Float keeps its point, by which Python tells 2.0 from 2', async () => {
  const query = 'query { result: aggregateThing { _sum { real } } }'
  assert.match(await (await engine.request('POST', '/', { query })).text(), /"real":2\.0/)
})

test('an answer is called what the query calls it', async () => {
  assert.deepEqual(await engine.answer('query { other: findFirstThing(where: { id: "a" }) { id } }'), {
    data: { other: { id: 'a' } },
  })
  assert.deepEqual(await engine.answer('query { findFirstThing(where: { id: "a" }) { id } }'), {
    data: { findFirstThing: { id: 'a' } },
  })
})

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { Running, tables } from './running.js'

/** @type {Running} */
let engine
before(async () => (engine = await Running.start(await tables('engine_values'))))
after(() => engine.stop())

let count = 0

/** Writes a field, and reads it back in the same query and in another. */
async function kept(field, literal) {
  const id = `value ${(count += 1)}`
  const created = await engine.result(`result: createOneThing(data: { id: "${id}" ${field}: ${literal} }) { ${field} }`)
  const found = await engine.result(`result: findUniqueThing(where: { id: "${id}" }) { ${field} }`)
  assert.deepEqual(found, created)
  return found[field]
}

/** How prisma-client-py writes a Json value: JSON, in a string of GraphQL. */
const json = (value) => JSON.stringify(JSON.stringify(value))

for (const [type, field, literal, value] of [
  ['String', 'text', '"plain"', 'plain'],
  ['an empty String', 'text', '""', ''],
  ['a String of digits', 'text', '"007"', '007'],
  ['Int', 'whole', '-2147483648', -2147483648],
  ['BigInt', 'big', '12', '12'],
  ['BigInt beyond 2^53', 'big', '9007199254740993', '9007199254740993'],
  ['the largest BigInt', 'big', '9223372036854775807', '9223372036854775807'],
  ['the smallest BigInt', 'big', '-9223372036854775808', '-9223372036854775808'],
  ['BigInt in a string', 'big', '"9007199254740993"', '9007199254740993'],
  ['Float', 'real', '0.1', 0.1],
  ['a Float without a fraction', 'real', '3', 3],
  ['a tiny Float', 'real', '5e-324', 5e-324],
  ['a huge Float', 'real', '1.797e308', 1.797e308],
  ['a Float with 15 digits', 'real', '0.123456789012345', 0.123456789012345],
  [
    'Decimal',
    'exact',
    '"1234567890123456789.000000000000000000000000000001"',
    '1234567890123456789.000000000000000000000000000001',
  ],
  ['a Decimal that is no string', 'exact', '12345678901234567890', '12345678901234567890'],
  ['Boolean', 'yes', 'false', false],
  ['DateTime', 'time', '"2024-02-29T23:59:59.999000+00:00"', '2024-02-29T23:59:59.999Z'],
  ['a DateTime of another zone', 'time', '"2024-03-01T01:59:59+02:00"', '2024-02-29T23:59:59.000Z'],
  ['a DateTime before 1970', 'time', '"1912-06-23T00:00:00Z"', '1912-06-23T00:00:00.000Z'],
  ['Bytes', 'bytes', '"AP8B"', 'AP8B'],
  ['empty Bytes', 'bytes', '""', ''],
  ['an enum', 'colour', '"GREEN"', 'GREEN'],
  ['a list', 'texts', '["a", "", "NULL", "{x,y}", "\\"q\\" \\\\"]', ['a', '', 'NULL', '{x,y}', '"q" \\']],
  ['an empty list', 'texts', '[]', []],
  ['a list of BigInt', 'bigs', '[9007199254740993, -1]', ['9007199254740993', '-1']],
  ['a list of Json', 'jsons', `[${json({ a: [1] })}, ${json('text')}, "null"]`, ['{"a":[1]}', '"text"', 'null']],
]) {
  test(`${type} comes back as it was`, async () => assert.deepEqual(await kept(field, literal), value))
}

for (const [name, text] of [
  ['quotes and backslashes', '"\'`\\ \\" \\n'],
  ['line ends', 'a\nb\r\nc\rd'],
  ['line separators of Unicode', 'a\u2028b\u2029c\u0085d'],
  ['control characters', '\u0001\b\f\t\u001f\u007f'],
  ['characters beyond 16 bits', '🎉 𝕏 漢字'],
  ['what looks like JSON', '{"$type":"Json","value":"x"}'],
  ['what looks like GraphQL', '"""} { # $x @y ... | ! ('],
  ['what looks like SQL', '\'; DROP TABLE "Thing"; -- $1 %s'],
]) {
  test(`a String may hold ${name}`, async () => assert.equal(await kept('text', JSON.stringify(text)), text))
  test(`Json may hold ${name}, in keys and values`, async () => {
    assert.deepEqual(JSON.parse(await kept('json', json({ [text]: [text] }))), { [text]: [text] })
  })
}

for (const value of [
  {},
  [],
  null,
  true,
  0,
  -1.5,
  1e21,
  '',
  'text',
  '"quoted"',
  '{"not": "an object"}',
  '[1]',
  'null',
  '\\',
  [null],
  [[[]]],
  { a: { b: [1, 'x', null, { c: false }] } },
  { $type: 'BigInt', value: '1' },
  { set: 1 },
  { '': '', 'a b': 1, 'ä"\\': 2 },
]) {
  test(`Json ${JSON.stringify(value)} is encoded once`, async () => {
    const written = await kept('json', json(value))
    assert.deepEqual(JSON.parse(written), value)
    const [row] = await engine.raw(
      `SELECT json #>> '{}' AS inner FROM engine_values."Thing" WHERE id = $1`,
      `value ${count}`,
    )
    if (typeof value === 'string') assert.equal(row.inner.prisma__value, value)
  })
}

test('integers in Json keep all their digits', async () => {
  assert.equal(
    await kept('json', '"[9007199254740993, 18446744073709551615]"'),
    '[9007199254740993,18446744073709551615]',
  )
})

test('Json of a megabyte', async () => {
  const value = { text: '"\\'.repeat(250_000), list: Array.from({ length: 50_000 }, (_, index) => index) }
  assert.deepEqual(JSON.parse(await kept('json', json(value))), value)
})

test('null is no value, and JSON null is one', async () => {
  const isNull = async (literal) => {
    assert.ok([null, 'null'].includes(await kept('json', literal)))
    const [{ absent }] = await engine.raw(
      'SELECT json IS NULL AS absent FROM engine_values."Thing" WHERE id = $1',
      `value ${count}`,
    )
    return absent.prisma__value
  }
  assert.equal(await isNull('null'), true)
  assert.equal(await isNull('DbNull'), true)
  assert.equal(await isNull('"null"'), false)
  assert.equal(await isNull('JsonNull'), false)
})

test('null is refused where a value must be', async () => {
  assert.equal((await engine.error('result: createOneThing(data: { settings: null }) { id }')).error_code, 'P2009')
})

for (const field of ['text', 'whole', 'big', 'real', 'exact', 'yes', 'time', 'bytes', 'colour']) {
  test(`${field} may be null`, async () => assert.equal(await kept(field, 'null'), null))
}

for (const [name, literal] of [
  ['no JSON', '"{bad"'],
  ['a number of no size', '"1e999"'],
  ['what Python writes for infinity', '"Infinity"'],
  ['nesting without end', JSON.stringify('['.repeat(5000) + ']'.repeat(5000))],
  ['nesting deeper than the engine reads', JSON.stringify('['.repeat(128) + ']'.repeat(128))],
  ['an object of GraphQL', '{ a: 1 }'],
  ['a number of GraphQL', '1'],
]) {
  test(`Json that is ${name} is refused, and the engine lives`, async () => {
    const error = await engine.error(`result: createOneThing(data: { json: ${literal} }) { id }`)
    assert.equal(error.error_code, 'P2009')
    assert.ok(await engine.isReady())
  })
}

test('Json as deep as the engine reads', async () => {
  const deepest = '['.repeat(127) + ']'.repeat(127)
  assert.equal(await kept('json', JSON.stringify(deepest)), deepest)
})

for (const [name, field, literal] of [
  ['a date', 'time', '"yesterday"'],
  ['a number', 'big', '"many"'],
  ['within 64 bits', 'big', '9223372036854775808'],
  ['whole', 'whole', '1.5'],
  ['base64', 'bytes', '"*"'],
  ['one of the enum', 'colour', '"BLUE"'],
  ['a list of strings', 'texts', '[1]'],
]) {
  test(`what is not ${name} is refused, and the engine lives`, async () => {
    await engine.error(`result: createOneThing(data: { ${field}: ${literal} }) { id }`)
    assert.ok(await engine.isReady())
  })
}

test('defaults are filled in', async () => {
  const { id, settings, texts, updated } = await engine.result(
    'result: createOneThing(data: { text: "x" }) { id settings texts updated }',
  )
  assert.match(id, /^[0-9a-f-]{36}$/)
  assert.deepEqual([settings, texts], ['{}', []])
  assert.ok(Math.abs(Date.parse(updated) - Date.now()) < 60_000)
})

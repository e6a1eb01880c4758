/**
 * OpenCost's filter language, version 2: `namespace:"a","b"+(label[app]!:"x"|services~:"api")`. A comparison is a field, an
 * operator and texts in double quotes; `+` is and, `|` is or, mixed only with parentheses; blanks between words do not count.
 */

/** What a line of cost is about; empty or absent where it has none. Keys of labels and annotations are sanitised (`sanitizeKey`). */
export interface LineProperties {
  readonly cluster: string;
  readonly node?: string;
  readonly namespace?: string;
  readonly pod?: string;
  readonly container?: string;
  /** Name of the top controller. */
  readonly controller?: string;
  /** Lower case: deployment, statefulset, daemonset, job, ... */
  readonly controllerKind?: string;
  readonly services?: readonly string[];
  readonly providerId?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A filter that can be evaluated; made by `parseFilter` or written down. */
export type Filter =
  | { readonly op: 'all' }
  | { readonly op: 'and' | 'or'; readonly of: readonly Filter[] }
  | { readonly op: 'not'; readonly of: Filter }
  | Comparison;

/** How a text is compared. Lists and maps without a key have no `equals`: they contain. */
export type ComparisonOperator = 'equals' | 'contains' | 'startsWith' | 'endsWith';

/** One field against one text. */
export interface Comparison {
  readonly op: ComparisonOperator;
  readonly field: FilterField;
  /** Of a label or annotation; '': the map's keys are compared. */
  readonly key: string;
  readonly value: string;
}

const textFields = ['cluster', 'node', 'namespace', 'controllerKind', 'controllerName', 'pod', 'container', 'provider'] as const;
const mapFields = ['label', 'annotation'] as const;
/** Aliases and the label (else annotation) that each stands for by default. */
export const defaultAliases = { department: 'department', environment: 'env', owner: 'owner', product: 'app', team: 'team' } as const;

export type Alias = keyof typeof defaultAliases;
/** Which label, or annotation where there is no such label, each alias stands for. */
export type AliasLabels = Readonly<Record<Alias, string>>;
type TextField = (typeof textFields)[number];
type MapField = (typeof mapFields)[number];
export type FilterField = TextField | MapField | 'services' | Alias;

const fields: ReadonlySet<string> = new Set<FilterField>([...textFields, ...mapFields, 'services', ...(Object.keys(defaultAliases) as Alias[])]);

/** A filter that does not follow the grammar. */
export class FilterSyntaxError extends Error {
  override readonly name = 'FilterSyntaxError';
  /** @param position of the fault in the text, from 0. */
  constructor(readonly position: number, readonly expected: string, readonly found: string) {
    super(`filter, at ${position}: expected ${expected}, found ${found}`);
  }
}

/** A part of a line stands for no allocation: written in a filter, it means that the field is empty. */
const unallocated = '__unallocated__';

/** A label's or annotation's key as Prometheus allows it: everything but letters, digits and `_` becomes `_`. */
export function sanitizeKey(key: string): string {
  return key.replace(/[^a-zA-Z0-9_]/g, '_');
}

interface Token {
  readonly kind: 'word' | 'text' | 'key' | 'operator' | 'sign' | 'end';
  readonly text: string;
  readonly position: number;
}

const tokenForm = /[ \t\r\n]+|"([^"]*)"|\[([^\]]*)\]|(!?(?:<~|~>|~)?:)|([A-Za-z0-9_-]+)|([+|(),])/y;

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  const form = new RegExp(tokenForm);
  while (form.lastIndex < text.length) {
    const position = form.lastIndex;
    const match = form.exec(text);
    if (!match) throw new FilterSyntaxError(position, 'a field, an operator, a quoted text, + | ( ) or ,', JSON.stringify(text.slice(position, position + 10)));
    const [, quoted, key, operator, word, sign] = match;
    if (quoted !== undefined) tokens.push({ kind: 'text', text: quoted, position });
    else if (key !== undefined) tokens.push({ kind: 'key', text: key, position });
    else if (operator !== undefined) tokens.push({ kind: 'operator', text: operator, position });
    else if (word !== undefined) tokens.push({ kind: 'word', text: word, position });
    else if (sign !== undefined) tokens.push({ kind: 'sign', text: sign, position });
  }
  tokens.push({ kind: 'end', text: '', position: text.length });
  return tokens;
}

const operators: Readonly<Record<string, ComparisonOperator>> = { ':': 'equals', '~:': 'contains', '<~:': 'startsWith', '~>:': 'endsWith' };

/** Nested deeper than any filter a person writes: refused before the stack is. */
const maximumDepth = 100;

/** Reads a filter; the empty text matches everything. O(n) in its length. @throws FilterSyntaxError with the place of the fault. */
export function parseFilter(text: string): Filter {
  const tokens = tokenize(text);
  let next = 0;
  const peek = (): Token => tokens[next] as Token;
  const fail = (expected: string): never => {
    const { kind, text: found, position } = peek();
    throw new FilterSyntaxError(position, expected, kind === 'end' ? 'the end' : JSON.stringify(found));
  };
  const sign = (text: string): boolean => {
    if (peek().kind !== 'sign' || peek().text !== text) return false;
    next++;
    return true;
  };
  const take = (kind: Token['kind'], expected: string): string => {
    const token = peek();
    if (token.kind !== kind) fail(expected);
    next++;
    return token.text;
  };

  const comparison = (): Filter => {
    if (peek().kind !== 'word' || !fields.has(peek().text)) fail(`a field (${[...fields].join(', ')})`);
    const field = take('word', 'a field') as FilterField;
    const isMap = field === 'label' || field === 'annotation';
    const key = isMap && peek().kind === 'key' ? sanitizeKey(take('key', 'a key')) : '';
    const operator = take('operator', "an operator (: !: ~: !~: <~: !<~: ~>: !~>:)");
    const negated = operator.startsWith('!');
    const compared = operators[negated ? operator.slice(1) : operator] as ComparisonOperator;
    const op = compared === 'equals' && (field === 'services' || (isMap && key === '')) ? 'contains' : compared;
    const values = [take('text', 'a text in double quotes')];
    while (sign(',')) values.push(take('text', 'a text in double quotes'));
    const each = values.map((value): Filter => {
      const one: Comparison = { op, field, key, value: isMap && key === '' ? sanitizeKey(value) : value };
      return negated ? { op: 'not', of: one } : one;
    });
    return each.length === 1 ? (each[0] as Filter) : { op: negated ? 'and' : 'or', of: each };
  };

  const group = (depth: number): Filter => {
    if (depth > maximumDepth) fail(`at most ${maximumDepth} open parentheses`);
    const element = (): Filter => {
      if (!sign('(')) return comparison();
      const inner = group(depth + 1);
      if (!sign(')')) fail('+ | or )');
      return inner;
    };
    const first = element();
    const joint = ['+', '|'].find((each) => peek().kind === 'sign' && peek().text === each);
    if (joint === undefined) return first;
    const of = [first];
    while (sign(joint)) of.push(element());
    if (peek().kind === 'sign' && (peek().text === '+' || peek().text === '|')) fail(`${joint} or parentheses: + and | are not mixed without them`);
    return { op: joint === '+' ? 'and' : 'or', of };
  };

  if (peek().kind === 'end') return { op: 'all' };
  const filter = group(0);
  if (peek().kind !== 'end') fail('+ | or the end');
  return filter;
}

/** Whether a line matches; `aliases` says which labels the aliases stand for. */
export function matches(filter: Filter, line: LineProperties, aliases: AliasLabels = defaultAliases): boolean {
  switch (filter.op) {
    case 'all': return true;
    case 'and': return filter.of.every((each) => matches(each, line, aliases));
    case 'or': return filter.of.some((each) => matches(each, line, aliases));
    case 'not': return !matches(filter.of, line, aliases);
    default: return compares(filter, line, aliases);
  }
}

function compares({ op, field, key, value: written }: Comparison, line: LineProperties, aliases: AliasLabels): boolean {
  const value = written === unallocated ? '' : written;
  switch (field) {
    case 'label': return key === '' ? comparesKeys(op, line.labels, value) : comparesText(op, line.labels?.[key] ?? '', value);
    case 'annotation': return key === '' ? comparesKeys(op, line.annotations, value) : comparesText(op, line.annotations?.[key] ?? '', value);
    case 'services': return comparesList(op, line.services ?? [], value);
    case 'department': case 'environment': case 'owner': case 'product': case 'team': {
      const found = aliasValue(line, aliases[field]);
      return found === undefined ? value === '' : comparesText(op, found, value);
    }
    default: return comparesText(op, textOf(line, field), value);
  }
}

/** What an alias says of a line: its label, else the annotation of the same name. */
export function aliasValue(line: LineProperties, label: string): string | undefined {
  const key = sanitizeKey(label);
  return line.labels?.[key] ?? line.annotations?.[key];
}

function textOf(line: LineProperties, field: TextField): string {
  switch (field) {
    case 'controllerName': return line.controller ?? '';
    case 'provider': return line.providerId ?? '';
    default: return line[field] ?? '';
  }
}

function comparesText(op: ComparisonOperator, text: string, value: string): boolean {
  switch (op) {
    case 'equals': return text === value;
    case 'contains': return text.includes(value);
    case 'startsWith': return text.startsWith(value);
    case 'endsWith': return text.endsWith(value);
  }
}

/** A list contains a whole entry; an empty one contains the empty text (it is not allocated to any). */
function comparesList(op: ComparisonOperator, list: readonly string[], value: string): boolean {
  if (op === 'startsWith' || op === 'endsWith') return list.some((each) => comparesText(op, each, value));
  return list.length === 0 ? value === '' : list.includes(value);
}

function comparesKeys(op: ComparisonOperator, map: Readonly<Record<string, string>> | undefined, value: string): boolean {
  const keys = Object.keys(map ?? {});
  return op === 'startsWith' || op === 'endsWith' ? keys.some((each) => comparesText(op, each, value)) : keys.includes(value);
}

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEFAULT_POLICY } from '@upid/contracts';
import { loadPolicy, PolicyFileError } from './policy.js';

it('reads a policy, fills what is left out, and says what is wrong', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'upid-policy-'));
  try {
    const file = join(dir, 'policy.yaml');
    await writeFile(file, 'name: careful\ncandidate_confidence: 95\n');
    expect(await loadPolicy(file)).toEqual({ ...DEFAULT_POLICY, name: 'careful', candidate_confidence: 95 });
    expect(await loadPolicy(null)).toEqual(DEFAULT_POLICY);
    await writeFile(file, 'candidate_confidence: 500\nunknown_field: 1\n');
    await expect(loadPolicy(file)).rejects.toThrow(/candidate_confidence/);
    await expect(loadPolicy(file)).rejects.toThrow(PolicyFileError);
    await expect(loadPolicy(join(dir, 'none.yaml'))).rejects.toThrow(/cannot be read/);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

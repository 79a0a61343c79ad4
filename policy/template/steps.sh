# 1. Keys. Root stays offline, the author's on your machine, policy's on the server. For real use give them passphrases
#    (leave out -N ''), or keep root and author on hardware (-t ed25519-sk).
mkdir -p -m 700 KEYS
for name in root author policy; do ssh-keygen -q -t ed25519 -N '' -C $name -f KEYS/$name; done
public() { cut -d' ' -f1,2 KEYS/$1.pub; }

# 2. Who may sign what: trust version 1, signed by root, on the branch `trust`. Its hash is the fleet's domain for ever,
#    so begin with the root that you want to keep: docs/ceremonies.md shows two of three holders.
cat > KEYS/1.yaml <<END
TRUST
END
ssh-keygen -q -Y sign -n trust@writ -f KEYS/root KEYS/1.yaml
git switch -q --orphan trust
cp KEYS/1.yaml 1.yaml
cp KEYS/1.yaml.sig 1.sig
git add 1.yaml 1.sig
git commit -q -m 'Trust version 1'

# 3. What should run: the first signed commit on the branch `main`. The hash of 1.yaml is the fleet's domain.
git switch -q --orphan main
sed -i "s/^domain:.*/domain: \"$(sha256sum KEYS/1.yaml | cut -c1-64)\"/" repository.yaml
git config gpg.format ssh
git config user.signingkey KEYS/author.pub
git config commit.gpgsign true
git add -A
git commit -q -m 'Describe the fleet'

# 4. Where it is served: a bare repository with policy's hooks. `trust` is pushed first.
git init -q --bare -b main SERVED
policy hook install SERVED --key KEYS/policy
git remote add origin SERVED
git push -q origin trust
git push -q -u origin main

"""AttnLRP by hand: relevance itself is propagated, layer by layer, in float64 and with no autograd anywhere.

Every rule is written as the paper has it, with the contributions to an output and the division by their sum.
"""

import torch


def linear(x, weight, relevance, bias=0.0):
    """LRP-0: R_i = Σ_j x_i w_ji / z_j R_j; also the relevance of each weight, Σ over positions (SparC³, Eq. 8).

    What a bias adds to z_j keeps its share of the relevance.
    """
    share = torch.where(relevance == 0, 0.0, relevance / (x @ weight.T + bias))
    return x * (share @ weight), weight * (share.T @ x)


def added(a, b, relevance):
    """A sum hands relevance on by what each term adds."""
    share = relevance / (a + b)
    return a * share, b * share


class Norm:
    """A normalisation whose denominator is a constant: a linear map of each position, with a bias or without one."""

    def __init__(self, module):
        parameters = {name: p.detach().double() for name, p in module.named_parameters()}
        self.weight, self.bias = parameters["weight"], parameters.get("bias")
        self.epsilon = getattr(module, "variance_epsilon", None) or module.eps

    def forward(self, x):
        self.x = x
        centred = x if self.bias is None else x - x.mean(-1, keepdim=True)
        self.scale = (centred.pow(2).mean(-1, keepdim=True) + self.epsilon).rsqrt()
        self.y = self.weight * centred * self.scale
        if self.bias is not None:
            self.y = self.y + self.bias
        return self.y

    def backward(self, relevance):
        if self.bias is None:
            return relevance
        width = self.x.shape[-1]
        centring = torch.eye(width, dtype=torch.float64) - 1 / width
        share = relevance / self.y * self.weight * self.scale
        return self.x * (share @ centring)


def rotation(length, head_dim, base):
    """Rotary embedding as one matrix (head_dim, head_dim) for each position."""
    half = head_dim // 2
    matrices = torch.zeros(length, head_dim, head_dim, dtype=torch.float64)
    for position in range(length):
        for i in range(half):
            angle = torch.tensor(position * base ** (-2 * i / head_dim), dtype=torch.float64)
            matrices[position, i, i] = matrices[position, i + half, i + half] = angle.cos()
            matrices[position, i, i + half], matrices[position, i + half, i] = -angle.sin(), angle.sin()
    return matrices


def affine(module):
    bias = 0.0 if module.bias is None else module.bias.detach().double()
    return module.weight.detach().double(), bias


class Attention:
    """Softmax attention over heads: forward keeps what backward needs."""

    def __init__(self, heads, groups, dim, base=None, window=None):
        self.heads, self.groups, self.dim, self.base, self.window = heads, groups, dim, base, window

    def forward(self, q0, k0, v0):
        length = len(q0)
        self.q0, self.k0, self.v0 = q0, k0, v0
        eye = torch.eye(self.dim, dtype=torch.float64).expand(length, -1, -1)
        self.turn = eye if self.base is None else rotation(length, self.dim, self.base)
        self.qr = torch.einsum("tij,thj->thi", self.turn, q0)
        self.kr = torch.einsum("tij,thj->thi", self.turn, k0)
        position = torch.arange(length)
        hidden = position[None, :] > position[:, None]
        if self.window:
            hidden |= position[:, None] - position[None, :] >= self.window
        self.logits, self.attention, outputs = [], [], []
        for head in range(self.heads):
            group = head * self.groups // self.heads
            logits = self.qr[:, head] @ self.kr[:, group].T / self.dim**0.5
            self.logits.append(logits)
            self.attention.append(logits.masked_fill(hidden, -torch.inf).softmax(-1))
            outputs.append(self.attention[-1] @ v0[:, group])
        self.mixed = torch.stack(outputs, 1)
        return self.mixed

    def backward(self, r_mixed):
        r_q, r_k, r_v = (torch.zeros_like(each) for each in (self.qr, self.kr, self.v0))
        for head in range(self.heads):
            group = head * self.groups // self.heads
            a, v = self.attention[head], self.v0[:, group]
            # O_jp = Σ_i A_ji V_ip: half to A, half to V, by contribution.
            parts = torch.einsum("ji,ip,jp->jip", a, v, r_mixed[:, head] / self.mixed[:, head]) / 2
            r_v[:, group] += parts.sum(0)
            r_a = parts.sum(2)
            # Softmax by its Taylor expansion: R(x_i) = x_i (R(s_i) − s_i Σ_k R(s_k)).
            logits = self.logits[head]
            r_logits = logits * (r_a - a * r_a.sum(-1, keepdim=True))
            # x_ji = Σ_d q_jd k_id / √D: half to q, half to k, by contribution.
            parts = torch.einsum("jd,id,ji->jid", self.qr[:, head], self.kr[:, group], r_logits / logits)
            parts = parts / self.dim**0.5 / 2
            r_q[:, head] += parts.sum(1)
            r_k[:, group] += parts.sum(0)
        r_q0 = self.q0 * torch.einsum("tij,thi->thj", self.turn, r_q / self.qr)
        r_k0 = self.k0 * torch.einsum("tij,thi->thj", self.turn, r_k / self.kr)
        return r_q0, r_k0, r_v


class Layer:
    """One decoder layer of any family: forward keeps what backward needs; parts are found by their names."""

    def __init__(self, layer, config):
        attention = layer.self_attn
        self.q, self.k, self.v = (affine(getattr(attention, f"{n}_proj")) for n in "qkv")
        self.opt = hasattr(layer, "fc1")
        self.o = affine(attention.out_proj if self.opt else attention.o_proj)
        heads = config.num_attention_heads
        if self.opt:
            self.gate, self.up, self.down = None, affine(layer.fc1), affine(layer.fc2)
            self.norms = Norm(layer.self_attn_layer_norm), Norm(layer.final_layer_norm)
            self.before = config.do_layer_norm_before
            self.attend = Attention(heads, heads, config.hidden_size // heads)
        else:
            self.gate, self.up, self.down = (affine(getattr(layer.mlp, f"{n}_proj")) for n in ("gate", "up", "down"))
            self.norms = Norm(layer.input_layernorm), Norm(layer.post_attention_layernorm)
            self.before = True
            base, window = config.rope_parameters["rope_theta"], getattr(config, "sliding_window", None)
            self.attend = Attention(heads, config.num_key_value_heads, config.head_dim, base, window)
        self.of_heads = [
            Norm(module) for name in ("q_norm", "k_norm") if (module := getattr(attention, name, None)) is not None
        ]

    def forward(self, x):
        self.x = x
        self.x1 = self.norms[0].forward(x) if self.before else x
        q, k, v = ((self.x1 @ w.T + b).view(len(x), -1, self.attend.dim) for w, b in (self.q, self.k, self.v))
        self.q0, self.k0 = q, k
        if self.of_heads:
            q, k = self.of_heads[0].forward(q), self.of_heads[1].forward(k)
        self.mixed = self.attend.forward(q, k, v)
        self.attended = self.mixed.flatten(1) @ self.o[0].T + self.o[1]
        self.sum1 = x + self.attended
        self.middle = self.sum1 if self.before else self.norms[0].forward(self.sum1)
        self.x2 = self.norms[1].forward(self.middle) if self.before else self.middle
        self.u = self.x2 @ self.up[0].T + self.up[1]
        if self.gate is None:
            self.h = self.u.clamp_min(0)
        else:
            self.g = self.x2 @ self.gate[0].T + self.gate[1]
            self.h = self.g * self.g.sigmoid() * self.u
        self.mlp = self.h @ self.down[0].T + self.down[1]
        self.sum2 = self.middle + self.mlp
        return self.sum2 if self.before else self.norms[1].forward(self.sum2)

    def backward(self, relevance):
        """Relevance of the input; neurons, heads and weights get theirs as attributes."""
        if not self.before:
            relevance = self.norms[1].backward(relevance)
        r_middle, r_mlp = added(self.middle, self.mlp, relevance)
        r_h, self.r_down = linear(self.h, self.down[0], r_mlp, self.down[1])
        self.r_neurons = r_h.sum(0)
        # Product: half to each factor (uniform rule). Activation: handed on whole (identity rule).
        if self.gate is None:
            r_x2, self.r_up = linear(self.x2, self.up[0], r_h, self.up[1])
        else:
            r_g, self.r_gate = linear(self.x2, self.gate[0], r_h / 2, self.gate[1])
            r_u, self.r_up = linear(self.x2, self.up[0], r_h / 2, self.up[1])
            r_x2 = r_g + r_u
        r_middle = r_middle + (self.norms[1].backward(r_x2) if self.before else r_x2)
        if not self.before:
            r_middle = self.norms[0].backward(r_middle)
        r_x, r_attended = added(self.x, self.attended, r_middle)
        r_mixed = linear(self.mixed.flatten(1), self.o[0], r_attended, self.o[1])[0].view_as(self.mixed)
        self.r_heads = r_mixed.sum((0, 2))
        r_q, r_k, r_v = self.attend.backward(r_mixed)  # norms of queries and keys hand on whole
        r_x1 = torch.zeros_like(self.x1)
        for r, (weight, bias) in ((r_q, self.q), (r_k, self.k), (r_v, self.v)):
            r_x1 = r_x1 + linear(self.x1, weight, r.flatten(1), bias)[0]
        return r_x + (self.norms[0].backward(r_x1) if self.before else r_x1)


def attnlrp(model, ids, seeds, weight=1.0):
    """Layers with the relevance of their parts, for weight × Σ of the logits at (position, token or −1)."""
    decoder = getattr(model.model, "decoder", model.model)
    layers = [Layer(layer, model.config) for layer in decoder.layers]
    x = decoder.embed_tokens.weight.detach().double()[torch.tensor(ids)]
    if positions := getattr(decoder, "embed_positions", None):
        if decoder.project_in is not None:
            x = x @ decoder.project_in.weight.detach().double().T
        x = x + positions.weight.detach().double()[2 : 2 + len(ids)]
    for layer in layers:
        x = layer.forward(x)
    final = getattr(decoder, "final_layer_norm", None) if positions else decoder.norm
    norm = Norm(final) if final is not None else None
    last = norm.forward(x) if norm else x
    maps = [model.lm_head.weight.detach().double()]
    if getattr(decoder, "project_out", None) is not None:
        maps.insert(0, decoder.project_out.weight.detach().double())
    values = [last]
    for each in maps:
        values.append(values[-1] @ each.T)
    logits = values[-1]
    r = torch.zeros_like(logits)
    for position, token in seeds:
        token = int(logits[position].argmax()) if token < 0 else token
        r[position, token] += weight * logits[position, token]
    for value, each in zip(values[-2::-1], maps[::-1], strict=True):
        r = linear(value, each, r)[0]
    r = norm.backward(r) if norm else r
    for layer in reversed(layers):
        r = layer.backward(r)
    return layers

"""Results as lines and tables."""


def figure(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def line(case):
    sides = ", ".join(f"{side} {figure(found['median']['value'])}" for side, found in case["sides"].items())
    ratio = f", ratio {case['ratio']:.2f}" if case["ratio"] else ""
    aims = "".join(f"; aim {aim['number']} ({aim['what']}): {'reached' if aim['reached'] else 'missed'}"
                   for aim in case["aims"])
    return f"{case['label']}: {sides} {case['unit']}{ratio}{aims}"


def write(root, names):
    pass

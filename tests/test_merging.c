/* apr-merge as its users run it: every method on one small tensor against numpy in float64, formats, slices, what is refused. */
#include "diff.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "model/model.h"
#include "model/open.h"

#define MERGE "apr-merge"
#define ROWS  3
#define COLS  8
#define COUNT (ROWS * COLS)

static const struct { const char *name; float value[COUNT]; } models[] = {
    { "base",
      { 1.09375f, 0.34375f, -0.546875f, -1.265625f, -1.890625f, 0.015625f,
        -0.8125f, -0.875f, -0.21875f, -0.046875f, -2.28125f, 0.921875f,
        -2.03125f, 1.859375f, 0.59375f, -0.46875f, 1.34375f, 0.015625f,
        0.6875f, 0.109375f, 1.09375f, 1.0625f, -0.90625f, -0.609375f } },
    { "a",
      { 1.265625f, 0.23828125f, -1.689453125f, -0.251953125f, -2.978515625f, -1.025390625f,
        -1.451171875f, -0.591796875f, 0.6796875f, -0.1640625f, -2.4765625f, 1.009765625f,
        -2.21484375f, 1.900390625f, 0.0234375f, -0.25f, 1.541015625f, -1.201171875f,
        0.6328125f, 0.19140625f, 1.375f, 0.654296875f, -1.5703125f, -1.083984375f } },
    { "b",
      { 1.23046875f, 0.130859375f, -0.73828125f, -0.9794921875f, -2.0869140625f, -0.208984375f,
        -0.8349609375f, -0.8251953125f, 0.041015625f, -0.2666015625f, -2.6728515625f, 0.8916015625f,
        -1.8701171875f, 1.4892578125f, 0.4716796875f, -0.392578125f, 1.4013671875f, 0.0361328125f,
        0.623046875f, -0.0908203125f, 0.861328125f, 1.3515625f, -1.185546875f, -0.302734375f } },
    { "c",
      { -0.22265625f, 3.24609375f, -2.28515625f, 0.33984375f, -2.7890625f, -0.1015625f,
        -0.87890625f, -1.52734375f, 2.0078125f, 0.046875f, -3.6015625f, 1.5703125f,
        -1.3203125f, 0.7109375f, 1.12890625f, -0.3984375f, 2.1640625f, 0.7265625f,
        0.6796875f, -0.30078125f, 2.00390625f, 1.375f, -2.39453125f, -1.15234375f } },
    { "far",
      { -0.484375f, -0.265625f, 2.28125f, -0.375f, 0.484375f, 1.65625f,
        0.5f, 0.4375f, 1.296875f, 0.203125f, 0.1875f, 0.6875f,
        0.40625f, -0.6875f, -1.171875f, -0.109375f, 1.390625f, -0.21875f,
        1.140625f, 0.40625f, -0.3125f, -2.640625f, 0.21875f, -0.28125f } },
};

/* numpy, in float64. */
static const struct { const char *method, *rest; float value[COUNT]; } cases[] = {
    { "linear",
      "models:\n"
      "- {model: a, parameters: {weight: 0.25}}\n"
      "- {model: b, parameters: {weight: 0.5}}\n",
      { 1.2421875f, 0.1666666716337204f, -1.0553385019302368f, -0.7369791865348816f, -2.3841145038604736f, -0.4811197817325592f,
        -1.0403646230697632f, -0.7473958134651184f, 0.25390625f, -0.232421875f, -2.607421875f, 0.9309895634651184f,
        -1.9850260019302368f, 1.6263021230697632f, 0.322265625f, -0.3450520932674408f, 1.4479166269302368f, -0.3763020932674408f,
        0.6263020634651184f, 0.0032552082557231188f, 1.0325521230697632f, 1.119140625f, -1.3138021230697632f, -0.5631510615348816f } },
    { "linear",
      "models:\n"
      "- {model: a, parameters: {weight: 1}}\n"
      "- {model: b, parameters: {weight: -0.5}}\n"
      "parameters: {normalize: false}\n",
      { 0.650390625f, 0.1728515625f, -1.3203125f, 0.23779296875f, -1.93505859375f, -0.9208984375f,
        -1.03369140625f, -0.17919921875f, 0.6591796875f, -0.03076171875f, -1.14013671875f, 0.56396484375f,
        -1.27978515625f, 1.15576171875f, -0.21240234375f, -0.0537109375f, 0.84033203125f, -1.21923828125f,
        0.3212890625f, 0.23681640625f, 0.9443359375f, -0.021484375f, -0.9775390625f, -0.9326171875f } },
    { "slerp",
      "base_model: base\n"
      "models: [{model: far}]\n"
      "parameters: {t: 0.3}\n",
      { 0.8193239569664001f, 0.19680213928222656f, 0.6818566918373108f, -1.4488470554351807f, -1.6051697731018066f, 0.9020062685012817f,
        -0.5336024761199951f, -0.6286939382553101f, 0.47850021719932556f, 0.06250743567943573f, -2.1493067741394043f, 1.2771373987197876f,
        -1.7856690883636475f, 1.46561861038208f, -0.04177740961313248f, -0.520811140537262f, 2.069559097290039f, -0.10168904811143875f,
        1.288565993309021f, 0.3253284990787506f, 0.9113293290138245f, -0.3657431900501251f, -0.7766091823577881f, -0.7514951825141907f } },
    { "nuslerp",
      "models:\n"
      "- {model: a, parameters: {weight: 1}}\n"
      "- {model: far, parameters: {weight: 3}}\n",
      { 0.09033657610416412f, -0.1609063446521759f, 1.54672372341156f, -0.4988240897655487f, -0.8812390565872192f, 1.2158643007278442f,
        -0.1600731462240219f, 0.17298278212547302f, 1.6366081237792969f, 0.13142772018909454f, -0.9522727727890015f, 1.167473316192627f,
        -0.6083096861839294f, 0.17624923586845398f, -1.1844542026519775f, -0.22699299454689026f, 2.1299359798431396f, -0.7777419686317444f,
        1.4555941820144653f, 0.5027414560317993f, 0.3161460757255554f, -2.3912434577941895f, -0.5019509196281433f, -0.7873803973197937f } },
    { "nuslerp",
      "base_model: base\n"
      "models:\n"
      "- {model: a, parameters: {weight: 1}}\n"
      "- {model: far, parameters: {weight: 3}}\n"
      "parameters: {nuslerp_flatten: false}\n",
      { -0.8702279925346375f, -0.5397337079048157f, 2.3650734424591064f, 0.6514502763748169f, 0.4612950086593628f, 1.4295095205307007f,
        0.4599635601043701f, 1.0686910152435303f, 1.3910696506500244f, 0.12977173924446106f, -0.21466903388500214f, 0.7489089369773865f,
        0.01226882729679346f, -0.32635632157325745f, -1.1220625638961792f, -0.08512479811906815f, 1.4582102298736572f, -0.640965461730957f,
        1.0765342712402344f, 0.40736496448516846f, -0.07280773669481277f, -2.4295976161956787f, -0.13358263671398163f,
        -0.4867565333843231f } },
    { "nuslerp",
      "models:\n"
      "- {model: a, parameters: {weight: 1}}\n"
      "- {model: far, parameters: {weight: 3}}\n"
      "parameters: {nuslerp_flatten: false, nuslerp_row_wise: true}\n",
      { -0.023325879126787186f, -0.1480943113565445f, 1.6346360445022583f, -0.34871721267700195f, -14.285300254821777f, 1.4378548860549927f,
        -0.20787744224071503f, 0.1787520796060562f, 1.2384246587753296f, 0.11907212436199188f, -1.1545573472976685f, 0.7794438004493713f,
        -10.320993423461914f, 0.4621066451072693f, -1.2596969604492188f, -0.18769897520542145f, 1.5627200603485107f, -0.5702617764472961f,
        1.631970763206482f, 0.3569200038909912f, 6.012559413909912f, -2.9964964389801025f, -0.5747312903404236f, -0.6411823630332947f } },
    { "multislerp",
      "models:\n"
      "- {model: a, parameters: {weight: 1}}\n"
      "- {model: far, parameters: {weight: 3}}\n"
      "- {model: c, parameters: {weight: 0.5}}\n",
      { -0.22550661861896515f, 0.13215577602386475f, 1.9160833358764648f, -0.4726163148880005f, -0.6178259253501892f, 1.6288279294967651f,
        0.06313864886760712f, 0.16441750526428223f, 1.945521354675293f, 0.1954921931028366f, -0.9132446050643921f, 1.277867078781128f,
        -0.3187253475189209f, -0.17164693772792816f, -1.2342207431793213f, -0.2463122457265854f, 2.322848081588745f, -0.5203956961631775f,
        1.596167802810669f, 0.49612709879875183f, 0.2637173533439636f, -2.741389036178589f, -0.47499868273735046f, -0.7759491801261902f } },
    { "karcher",
      "models: [{model: a}, {model: far}, {model: c}]\n",
      { 0.16538818180561066f, 1.2212157249450684f, 0.07136822491884232f, -0.2992895245552063f, -2.269334077835083f, 0.7869539856910706f,
        -0.6948122978210449f, -0.5658791661262512f, 2.226680278778076f, 0.10081871598958969f, -2.583150625228882f, 1.7203036546707153f,
        -1.3442260026931763f, 0.7046990990638733f, -0.4901987612247467f, -0.3799959421157837f, 2.810833215713501f, -0.5038427710533142f,
        1.5361015796661377f, 0.30951204895973206f, 1.2652119398117065f, -1.2683497667312622f, -1.6010501384735107f,
        -1.2563393115997314f } },
    { "task_arithmetic",
      "base_model: base\n"
      "models:\n"
      "- {model: a, parameters: {weight: 0.5}}\n"
      "- {model: b, parameters: {weight: 0.25}}\n"
      "parameters: {lambda: 0.75}\n",
      { 1.183837890625f, 0.2642822265625f, -1.01123046875f, -0.83184814453125f, -2.33538818359375f, -0.4168701171875f,
        -1.05621337890625f, -0.75946044921875f, 0.1668701171875f, -0.13201904296875f, -2.42791748046875f, 0.94915771484375f,
        -2.06988525390625f, 1.80535888671875f, 0.35699462890625f, -0.3724365234375f, 1.42852783203125f, -0.43682861328125f,
        0.6549072265625f, 0.10260009765625f, 1.1556396484375f, 0.963623046875f, -1.2076416015625f, -0.7298583984375f } },
    { "ties",
      "base_model: base\n"
      "models:\n"
      "- {model: a, parameters: {weight: 0.5, density: 0.5}}\n"
      "- {model: b, parameters: {weight: 0.25, density: 0.3}}\n"
      "- {model: c, parameters: {weight: 1, density: 0.1}}\n",
      { 1.09375f, 3.24609375f, -1.689453125f, -0.4944661557674408f, -2.978515625f, -1.025390625f,
        -1.451171875f, -0.591796875f, 1.3473771810531616f, -0.046875f, -2.6728515625f, 0.921875f,
        -2.03125f, 1.4892578125f, 0.0234375f, -0.46875f, 1.34375f, -1.201171875f,
        0.6875f, 0.109375f, 1.09375f, 0.654296875f, -1.4420572519302368f, -1.083984375f } },
    { "ties",
      "base_model: base\n"
      "models:\n"
      "- {model: a, parameters: {weight: 0.5, density: 0.5}}\n"
      "- {model: b, parameters: {weight: 0.25, density: 0.3}}\n"
      "parameters: {normalize: false, rescale: true}\n",
      { 1.09375f, 0.34375f, -1.223249077796936f, -0.5213091373443604f, -2.53462553024292f, -0.6006269454956055f,
        -1.1905757188796997f, -0.7073517441749573f, 0.4440576136112213f, -0.046875f, -2.4786715507507324f, 0.921875f,
        -2.03125f, 1.6727845668792725f, 0.2561410367488861f, -0.46875f, 1.34375f, -0.7046844959259033f,
        0.6875f, 0.109375f, 1.09375f, 0.8208552598953247f, -1.4401606321334839f, -0.8903303742408752f } },
    { "breadcrumbs",
      "base_model: base\n"
      "models:\n"
      "- {model: a, parameters: {weight: 0.5, density: 0.5, gamma: 0.1}}\n"
      "- {model: b, parameters: {weight: 0.25, density: 0.9, gamma: 0.2}}\n",
      { 1.1279296875f, 0.29052734375f, -0.5947265625f, -0.687255859375f, -2.483642578125f, -0.56103515625f,
        -1.137451171875f, -0.720947265625f, 0.29541015625f, -0.101806640625f, -2.28125f, 0.914306640625f,
        -1.990966796875f, 1.859375f, 0.278076171875f, -0.34033203125f, 1.358154296875f, 0.020751953125f,
        0.67138671875f, 0.059326171875f, 1.17626953125f, 0.9306640625f, -1.30810546875f, -0.8466796875f } },
    { "breadcrumbs_ties",
      "base_model: base\n"
      "models:\n"
      "- {model: a, parameters: {weight: 0.5, density: 0.5, gamma: 0.1}}\n"
      "- {model: b, parameters: {weight: 0.25, density: 0.9, gamma: 0.2}}\n",
      { 1.1279296875f, 0.29052734375f, -0.5947265625f, -0.687255859375f, -2.483642578125f, -0.56103515625f,
        -1.137451171875f, -0.720947265625f, 0.29541015625f, -0.101806640625f, -2.28125f, 0.914306640625f,
        -1.990966796875f, 1.859375f, 0.278076171875f, -0.34033203125f, 1.358154296875f, 0.020751953125f,
        0.67138671875f, 0.059326171875f, 1.234375f, 0.8583984375f, -1.30810546875f, -0.8466796875f } },
    { "sce",
      "base_model: base\n"
      "models: [{model: a}, {model: b}, {model: c}]\n"
      "parameters: {select_topk: 0.5}\n",
      { -0.22265625f, 3.24609375f, -2.1396541595458984f, 0.19988156855106354f, -1.890625f, -0.2788730263710022f,
        -0.8125f, -0.875f, 1.7146751880645752f, -0.046875f, -3.3688101768493652f, 0.921875f,
        -2.03125f, 0.7311934232711792f, 0.06834013760089874f, -0.46875f, 1.34375f, -1.201171875f,
        0.6875f, 0.109375f, 1.8821749687194824f, 1.0625f, -2.212858200073242f, -0.609375f } },
    { "model_stock",
      "base_model: base\n"
      "models: [{model: a}, {model: b}, {model: c}]\n",
      { 0.8770736455917358f, 0.8992980122566223f, -1.2074018716812134f, -0.6410009264945984f, -2.3598804473876953f, -0.2816750705242157f,
        -0.9689184427261353f, -0.9436561465263367f, 0.5089633464813232f, -0.09915446490049362f, -2.6912972927093506f, 1.0736744403839111f,
        -1.8832298517227173f, 1.541709065437317f, 0.5599468350410461f, -0.3902258276939392f, 1.5749133825302124f, -0.08872396498918533f,
        0.6602054834365845f, -0.004212105181068182f, 1.2999284267425537f, 1.1040716171264648f, -1.4290446043014526f,
        -0.7622241973876953f } },
    { "model_stock",
      "base_model: base\n"
      "models: [{model: a}, {model: b}, {model: c}]\n"
      "parameters: {filter_wise: true}\n",
      { 0.8525065183639526f, 0.9622870683670044f, -1.2822935581207275f, -0.5701798796653748f, -2.413085460662842f, -0.3153834939002991f,
        -0.9866535067558289f, -0.9514405131340027f, 0.6988855004310608f, -0.11279861629009247f, -2.798313617706299f, 1.1132917404174805f,
        -1.8445987701416016f, 1.4588030576705933f, 0.5511246919631958f, -0.36973220109939575f, 1.4106435775756836f, -0.01457126159220934f,
        0.6796016097068787f, 0.07650543004274368f, 1.1534134149551392f, 1.0745298862457275f, -1.0575350522994995f, -0.653606116771698f } },
    { "nearswap",
      "base_model: base\n"
      "models: [{model: a}]\n"
      "parameters: {t: 0.25}\n",
      { 1.265625f, 0.23828125f, -0.796875f, -1.015625f, -2.140625f, -0.234375f,
        -1.0625f, -0.625f, 0.03125f, -0.1640625f, -2.4765625f, 1.009765625f,
        -2.21484375f, 1.900390625f, 0.34375f, -0.25f, 1.541015625f, -0.234375f,
        0.6328125f, 0.19140625f, 1.34375f, 0.8125f, -1.15625f, -0.859375f } },
    { "passthrough",
      "models:\n"
      "- {model: a, parameters: {scale: 0.5}}\n",
      { 0.6328125f, 0.119140625f, -0.8447265625f, -0.1259765625f, -1.4892578125f, -0.5126953125f,
        -0.7255859375f, -0.2958984375f, 0.33984375f, -0.08203125f, -1.23828125f, 0.5048828125f,
        -1.107421875f, 0.9501953125f, 0.01171875f, -0.125f, 0.7705078125f, -0.6005859375f,
        0.31640625f, 0.095703125f, 0.6875f, 0.3271484375f, -0.78515625f, -0.5419921875f } },
};

/* ---- models --------------------------------------------------------------------------------------------------------- */

/* A SafeTensors file with one tensor of F32. */
static const char *one_model(const char *name, const float value[COUNT])
{
    struct test_bytes b = { 0 };
    char header[128], file[64];
    snprintf(header, sizeof header, "{\"w\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[0,%d]}}", ROWS, COLS, 4 * COUNT);
    snprintf(file, sizeof file, "%s.safetensors", name);
    test_integer(&b, strlen(header), 8);
    test_text(&b, header);
    test_floats(&b, value, COUNT);
    const char *const path = test_file(file, b.at, b.n);
    test_free(&b);
    return path;
}

static void write_models(void)
{
    for (size_t i = 0; i < APR_LENGTH(models); i++)
        one_model(models[i].name, models[i].value);
}

/* The configuration's names of models are those of files beside it. */
static const char *config_of(const char *method, const char *rest)
{
    static const char *const names[] = { "base", "a", "b", "c", "far" };
    struct test_bytes b = { 0 };
    test_text(&b, "merge_method: ");
    test_text(&b, method);
    test_text(&b, "\n");
    for (const char *at = rest; *at != 0; at++) {
        test_put(&b, at, 1);
        const bool named = at - rest >= 7 && strncmp(at - 6, "model: ", 7) == 0;
        for (size_t i = 0; named && i < APR_LENGTH(names); i++) {
            const size_t n = strlen(names[i]);
            if (strncmp(at + 1, names[i], n) != 0 || (at[1 + n] != '\n' && at[1 + n] != '}' && at[1 + n] != ','))
                continue;
            test_text(&b, names[i]);
            test_text(&b, ".safetensors");
            at += n;
            break;
        }
    }
    const char *const path = test_file("merge.yml", b.at, b.n);
    test_free(&b);
    return path;
}

static void expect_end(struct test_answer a, int code, const char *what)
{
    if (a.exit != code)
        fail_msg("%s: exit %d: %s", what, a.exit, (const char *)a.err.at);
    test_answer_free(&a);
}

static void expect_values(const char *path, const float *want, const char *what)
{
    struct apr_model *const m = test_opened(path);
    float got[COUNT];
    assert_int_equal(m->ntensor, 1);
    assert_int_equal(m->tensor[0].count, COUNT);
    memcpy(got, m->tensor[0].data.at, sizeof got);
    for (size_t i = 0; i < COUNT; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-6f))
            fail_msg("%s: element %zu is %.9g, not %.9g", what, i, (double)got[i], (double)want[i]);
    apr_close(m);
}

/* ---- methods -------------------------------------------------------------------------------------------------------- */

static void a_method_gives_what_numpy_gives_on_any_threads(void **state)
{
    (void)state;
    write_models();
    for (size_t i = 0; i < APR_LENGTH(cases); i++) {
        const char *const out = test_path("out.safetensors");
        expect_end(test_tool(MERGE, config_of(cases[i].method, cases[i].rest), out, "--force", "--threads", i % 2 == 0 ? "1" : "3", NULL),
                   0, cases[i].rest);
        expect_values(out, cases[i].value, cases[i].rest);
    }
}

static void random_choices_are_of_the_seed_alone(void **state)
{
    (void)state;
    static const char rest[] =
        "base_model: base\nmodels:\n- {model: a, parameters: {weight: 1, density: 0.5}}\n- {model: c, parameters: {weight: 0.5, density: 0.4}}\n";
    static const char *const methods[] = { "dare_linear", "dare_ties", "della", "della_linear" };
    write_models();
    for (size_t i = 0; i < APR_LENGTH(methods); i++) {
        struct test_bytes got[3];
        const char *const config = config_of(methods[i], rest);
        for (size_t k = 0; k < 3; k++) {
            expect_end(test_tool(MERGE, config, test_path("random.safetensors"), "--force", "--threads", k == 1 ? "3" : "1", "--seed",
                                 k == 2 ? "7" : "0", NULL), 0, methods[i]);
            got[k] = test_load(test_path("random.safetensors"));
        }
        assert_int_equal(got[0].n, got[1].n);
        assert_memory_equal(got[0].at, got[1].at, got[0].n);
        assert_memory_not_equal(got[0].at, got[2].at, got[0].n);
        for (size_t k = 0; k < 3; k++)
            test_free(&got[k]);
    }
}

static void the_command_line_says_the_same(void **state)
{
    (void)state;
    write_models();
    const char *const one = test_path("one.safetensors"), *const two = test_path("two.safetensors");
    const char *const config = config_of("ties", "base_model: base\nparameters: {density: 0.5}\ndtype: ~\ntokenizer_source: null\nmodels:\n"
                                         "- {model: a, parameters: {weight: 0.5}}\n- {model: c, parameters: {weight: 1}}\nslices:\n");
    expect_end(test_tool(MERGE, config, one, NULL), 0, "a configuration");
    expect_end(test_tool(MERGE, "--method", "ties", "--base", test_path("base.safetensors"), "--weight", "0.5", "--weight=1", "--density",
                         "0.5", test_path("a.safetensors"), test_path("c.safetensors"), two, NULL), 0, "options");
    struct test_bytes a = test_load(one), b = test_load(two);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.at, b.at, a.n);
    test_free(&a);
    test_free(&b);
}

/* ---- formats -------------------------------------------------------------------------------------------------------- */

static void one_model_in_every_format_merged_is_that_model(void **state)
{
    (void)state;
    static const char *const targets[] = { "same.gguf", "same.apr", "same/" };
    for (size_t i = 0; i < APR_LENGTH(targets); i++) {
        const char *const out = test_path(targets[i]);
        expect_end(test_tool(MERGE, "--method", "linear", "--weight", "1", "--weight", "2", "--weight", "1", "fixtures/qwen2",
                             "fixtures/qwen2-bf16.gguf", "fixtures/qwen2.apr", out, NULL), 0, out);
        expect_end(test_tool("apr-diff", "fixtures/qwen2", out, NULL), 0, out);
        expect_end(test_tool("apr-inspect", "--check", out, NULL), 0, out);
    }
}

/* Two experts of two rows of 32 codes each, all of one value a row: 1, 3, -1/4, 2. The class of such a checkpoint has the values turned. */
static void what_is_packed_is_merged_by_its_values_and_says_no_more_of_codes(void **state)
{
    (void)state;
    static unsigned char codes[4 * 16];
    static const unsigned char scales[4] = { 127, 128, 126, 127 };
    static const float row[4] = { 1, 3, -.25f, 2 };
    static float values[2 * 32 * 2];
    for (unsigned i = 0; i < sizeof codes; i++)
        codes[i] = (unsigned char)("\x22\x33\x99\x44"[i / 16]);
    for (unsigned i = 0; i < 128; i++)
        values[i] = row[i / 64 * 2 + i % 2];
    const struct test_tensor t[] = { { "layers.0.experts.down_proj_blocks", "U8", "[2,2,1,16]", codes, 64 },
                                     { "layers.0.experts.down_proj_scales", "U8", "[2,2,1]", scales, 4 } };
    const struct test_tensor want = { "layers.0.experts.down_proj", "F32", "[2,32,2]", values, sizeof values };
    static const char said[] = "\"quantization_config\": {\"quant_method\": \"mxfp4\"}";
    char config[256];
    snprintf(config, sizeof config, "{%s, \"text_config\": {\"a\": 1, %s}}", said, said);
    const char *const source = test_checkpoint("packed", config, t, 2), *const out = test_path("unpacked/");
    const char *const truth = test_safetensors("values.safetensors", &want, 1);
    test_file("packed/hf_quant_config.json", "{}", 2);
    for (unsigned i = 0; i < 2; i++) {
        expect_end(test_tool(MERGE, "--method", "linear", "--weight", "1", "--weight", "3", "--force", source, i == 0 ? source : truth, out,
                             NULL), 0, "packed");
        json_t *const r = report_of(test_tool("apr-diff", "--json", truth, out, NULL), 0);
        expect_text("packed", r, "results.0.layout", "same");
        expect_text("packed", r, "results.0.status", "Identical");
        json_decref(r);
        struct test_bytes text = test_load(test_path("unpacked/config.json"));
        test_put(&text, "", 1);
        assert_string_equal((const char *)text.at, "{\"text_config\": {\"a\": 1}}");
        test_free(&text);
        assert_int_not_equal(access(test_path("unpacked/hf_quant_config.json"), F_OK), 0);
    }
}

static void slices_are_layers_anew(void **state)
{
    (void)state;
    char here[2048], text[8192];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(text, sizeof text, "merge_method: passthrough\nslices:\n- sources: [{model: %s/fixtures/qwen2, layer_range: [0, 2]}]\n"
             "- sources: [{model: %s/fixtures/qwen2, layer_range: [1, 2]}]\n", here, here);
    const char *const config = test_file("franken.yml", text, strlen(text)), *const out = test_path("franken/");
    expect_end(test_tool(MERGE, config, out, NULL), 0, "slices");
    expect_end(test_tool("apr-inspect", "--check", out, NULL), 0, "slices");
    struct apr_model *m;
    struct apr_error e;
    assert_int_equal(apr_open(&m, out, test_run_with(1), &e), APR_OK);
    const struct apr_tensor *const second = apr_model_find(m, apr_text("model.layers.1.mlp.up_proj.weight"));
    const struct apr_tensor *const third = apr_model_find(m, apr_text("model.layers.2.mlp.up_proj.weight"));
    assert_non_null(second);
    assert_non_null(third);
    assert_memory_equal(second->data.at, third->data.at, second->data.n);
    apr_close(m);
    struct test_bytes written = test_load(test_path("franken/config.json"));
    assert_true(test_says(&written, "\"num_hidden_layers\": 3"));
    test_free(&written);
}

/* ---- what is refused ------------------------------------------------------------------------------------------------ */

static void what_makes_no_sense_is_told_by_line_and_name(void **state)
{
    (void)state;
    static const struct { const char *method, *rest, *line, *word; } rows[] = {
        { "lineer", "models: [{model: a}]\n", "line 1,", "did you mean linear?" },
        { "linear", "merge_mode: x\nmodels: [{model: a}]\n", "line 2,", "merge_mode" },
        { "linear", "models:\n- model: a\n  parameters:\n    wieght: 1\n", "line 5,", "weight" },
        { "linear", "models:\n- model: a\n  parameters:\n    weight: heavy\n", "line 5,", "heavy" },
        { "linear", "models:\n- model: a\n  parameters: {density: 1}\n", "line 4,", "density" },
        { "linear", "models:\n- model: a\n", "line 3,", "weight is missing" },
        { "linear", "models:\n- model: a\n  parameters: {weight: []}\n", "line 4,", "weight" },
        { "ties", "models:\n- {model: a, parameters: {weight: 1}}\n", "line 1,", "base_model" },
        { "ties", "base_model: base\nmodels:\n- {model: a, parameters: {weight: 1, density: 2}}\n", "line 4,", "density" },
        { "slerp", "base_model: base\nmodels: [{model: a}, {model: c}]\nparameters: {t: 0.5}\n", "line 1,", "slerp" },
        { "passthrough", "slices:\n- sources:\n  - model: a\n    layer_range: [3, 1]\n", "line 5,", "no layer" },
        { "passthrough", "slices:\n- sources:\n  - model: a\n    layer_range: [0, 9]\n", "line 5,", "has 0" },
        { "linear", "models:\n- {model: hub/name, parameters: {weight: 1}}\n", "line 3,", "hub/name" },
        { "linear", "models:\n- {model: 'http://host/a/b.apr', parameters: {weight: 1}}\n", "line 3,", "nothing is fetched here, models are paths" },
        { "linear", "dtype: float33\nmodels: [{model: a}]\n", "line 2,", "float33" },
        { "linear", "cache_dir: x\nmodels: [{model: a}]\n", "line 2,", "cache_dir" },
        { "della", "base_model: base\nmodels:\n- {model: a, parameters: {weight: 1, density: 0.9, epsilon: 0.2}}\n", "line 4,", "epsilon" },
        { "ram", "models: [{model: a}]\n", "line 1,", "ram" },
        { "ties",
          "base_model: base\nparameters:\n  density: [0.5, 2]\nmodels:\n- {model: a, parameters: {weight: 1}}\n", "line 4, column 18", "not 2" },
        { "breadcrumbs", "base_model: base\nmodels:\n- model: a\n  parameters: {weight: 1,\n    gamma: -1}\n", "line 6,", "gamma" },
        { "sce", "base_model: base\nparameters: {select_topk: 1.5}\nmodels: [{model: a}]\n", "line 3,", "select_topk" },
        { "karcher", "parameters: {max_iter: 1e300, tol: 0}\nmodels: [{model: a}, {model: c}]\n", "line 2,", "max_iter" },
        { "karcher", "parameters: {tol: -1}\nmodels: [{model: a}, {model: c}]\n", "line 2,", "tol" },
    };
    write_models();
    for (size_t i = 0; i < APR_LENGTH(rows); i++) {
        struct test_answer a = test_tool(MERGE, config_of(rows[i].method, rows[i].rest), test_path("refused.safetensors"), NULL);
        if (a.exit != 2 || !test_says(&a.err, "merge.yml") || !test_says(&a.err, rows[i].line) || !test_says(&a.err, rows[i].word))
            fail_msg("%zu: exit %d, not %s %s: %s", i, a.exit, rows[i].line, rows[i].word, (const char *)a.err.at);
        assert_int_not_equal(access(test_path("refused.safetensors"), F_OK), 0);
        test_answer_free(&a);
    }
}

static const char *mixture(const char *folder, const char *config, const char *const *name, size_t n)
{
    static const float x[4] = { 1, 2, 3, 4 };
    struct test_tensor t[4];
    for (size_t i = 0; i < n; i++)
        t[i] = (struct test_tensor){ name[i], "F32", "[2,2]", x, sizeof x };
    return test_checkpoint(folder, config, t, n);
}

/* Of one family all the same: a dense layer in a mixture of experts, and the other way round, and a third expert of two. */
static void matrices_that_have_no_place_in_the_result_are_refused(void **state)
{
    (void)state;
    static const char *const dense[] = { "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight" };
    static const char *const experts[] = { "model.layers.0.self_attn.q_proj.weight", "model.layers.0.block_sparse_moe.experts.0.w1.weight",
                                           "model.layers.0.block_sparse_moe.experts.1.w1.weight",
                                           "model.layers.0.block_sparse_moe.experts.2.w1.weight" };
#define SIZES "\"hidden_size\": 2, \"intermediate_size\": 2, \"num_hidden_layers\": 1, \"num_attention_heads\": 1"
#define EXPERTS(n) "{\"architectures\": [\"MixtralForCausalLM\"], \"num_local_experts\": " n ", " SIZES "}"
    const char *const one = mixture("dense", "{\"architectures\": [\"MistralForCausalLM\"], " SIZES "}", dense, 2);
    const char *const two = mixture("two", EXPERTS("2"), experts, 3), *const three = mixture("three", EXPERTS("3"), experts, 4);
    const struct { const char *a, *b, *says; } row[] = { { one, two, "experts.0.w1" }, { two, one, "mlp.up_proj" }, { two, three, "experts.2.w1" } };
    for (size_t i = 0; i < APR_LENGTH(row); i++) {
        struct test_answer a = test_tool(MERGE, "--method", "linear", "--weight", "1", "--weight", "1", row[i].a, row[i].b,
                                         test_path("mixed/"), NULL);
        if (a.exit != 2 || !test_says(&a.err, row[i].says) || !test_says(&a.err, "has no place"))
            fail_msg("%zu: exit %d: %s", i, a.exit, (const char *)a.err.at);
        test_answer_free(&a);
    }
    expect_end(test_tool(MERGE, "--method", "linear", "--weight", "1", "--weight", "1", two, two, test_path("mixed/"), NULL), 0, "alike");
}

static void what_is_no_number_is_named_or_becomes_0(void **state)
{
    (void)state;
    float value[COUNT];
    write_models();
    memcpy(value, models[1].value, sizeof value);
    value[13] = NAN;
    const char *const bad = one_model("bad", value), *const good = test_path("a.safetensors"), *const out = test_path("number.safetensors");
    static const char *const methods[] = { "linear", "ties", "multislerp" };
    for (size_t i = 0; i < APR_LENGTH(methods); i++) {
        const char *const density = i == 1 ? "--density=0.5" : "--quiet", *const base = i == 1 ? "--base" : "--quiet", *const b = i == 1
            ? test_path("base.safetensors") : "--quiet";
        struct test_answer a = test_tool(MERGE, "--method", methods[i], "--weight=1", "--weight=1", density, base, b, good, bad, out, NULL);
        assert_int_equal(a.exit, 2);
        if (!test_says(&a.err, "bad.safetensors") || !test_says(&a.err, "element 13 is NaN") || !test_says(&a.err, "--nan-to-zero"))
            fail_msg("%s: %s", methods[i], (const char *)a.err.at);
        test_answer_free(&a);
        assert_int_not_equal(access(out, F_OK), 0);
    }
    expect_end(test_tool(MERGE, "--method", "linear", "--weight=1", "--weight=1", good, bad, out, "--nan-to-zero", NULL), 0,
               "--nan-to-zero");
    for (size_t i = 0; i < COUNT; i++)
        value[i] = (models[1].value[i] + (i == 13 ? 0 : models[1].value[i])) / 2;
    expect_values(out, value, "--nan-to-zero");
    memcpy(value, models[1].value, sizeof value);
    value[13] = 0;
    expect_end(test_tool(MERGE, "--method", "passthrough", bad, out, "--nan-to-zero", "--force", NULL), 0, "passthrough");
    expect_values(out, value, "passthrough");
}

static void what_is_quantized_is_quantized_again_only_when_that_is_allowed(void **state)
{
    (void)state;
    const char *const out = test_path("again.gguf");
    static const char *const more[] = { "fixtures/qwen2", "fixtures/qwen2-q4_0.gguf" };
    for (size_t i = 0; i < APR_LENGTH(more); i++) {
        expect_exit(test_tool(MERGE, "--method", "linear", "--weight", "1", "--weight", "1", more[i], "fixtures/qwen2-q8_0.gguf", out,
                              "--type", "q8_0", "--force", NULL), 2, "--allow-requantize");
        expect_exit(test_tool(MERGE, "--method", "linear", "--weight", "1", "--weight", "1", more[i], "fixtures/qwen2-q8_0.gguf", out,
                              "--type", "q8_0", "--allow-requantize", "--force", NULL), 0, NULL);
        expect_exit(test_tool(MERGE, "--method", "linear", "--weight", "1", "--weight", "1", more[i], "fixtures/qwen2-q8_0.gguf", out,
                              "--type", "bf16", "--force", NULL), 0, NULL);
    }
}

static void an_input_is_never_written_onto(void **state)
{
    (void)state;
    write_models();
    const char *const a = test_path("a.safetensors"), *const config = config_of("linear", "models: [{model: a, parameters: {weight: 1}}]\n");
    expect_end(test_tool(MERGE, config, a, "--force", NULL), 2, "onto a model");
    expect_end(test_tool(MERGE, config, config, "--force", "--to", "safetensors", NULL), 2, "onto the configuration");
    expect_values(a, models[1].value, "the model");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_method_gives_what_numpy_gives_on_any_threads),
        cmocka_unit_test(random_choices_are_of_the_seed_alone),
        cmocka_unit_test(the_command_line_says_the_same),
        cmocka_unit_test(one_model_in_every_format_merged_is_that_model),
        cmocka_unit_test(what_is_packed_is_merged_by_its_values_and_says_no_more_of_codes),
        cmocka_unit_test(slices_are_layers_anew),
        cmocka_unit_test(what_makes_no_sense_is_told_by_line_and_name),
        cmocka_unit_test(matrices_that_have_no_place_in_the_result_are_refused),
        cmocka_unit_test(what_is_no_number_is_named_or_becomes_0),
        cmocka_unit_test(what_is_quantized_is_quantized_again_only_when_that_is_allowed),
        cmocka_unit_test(an_input_is_never_written_onto),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
